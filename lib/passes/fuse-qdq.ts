/**
 * Turns DequantizeLinear -> float operator -> QuantizeLinear into integer operators: the step from QDQ form to QOperator
 * form, for the quantizer and for models that come in QDQ form. What has no integer operator stays as it is.
 *
 * A DQ may have any number of readers. An integer operator computes what its definition says (exact sums, one rounding),
 * which differs from the float road by at most the last bit of a code.
 */
import { type AttributeInit, Attributes } from '../graph/attributes';
import type { Graph, Node, Value } from '../graph/graph';
import {
  codeTable,
  dequantizeTensor,
  type Quantization,
  quantizeCode,
  quantizeTensor,
  sameQuantization,
} from '../ops/families/quantization';
import { meanView } from '../ops/reduce-mean';
import { lookupOp } from '../ops/registry';
import { codeRange } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { capturedValues, floatConstant, onlyConsumer } from './matching';
import { moveQdq } from './move-qdq';
import {
  type Dequantized,
  dequantizedFrom,
  isDequantize,
  isQuantize,
  onlyQuantizer,
  type PairParams,
  paramsOf,
  paramValues,
  perTensor,
  quantizeBias,
} from './qdq-pairs';

export interface FuseQdqOptions {
  /**
   * For the runtime only, default false: also use q8's own operators (domain ai.q8) and type combinations that other
   * runtimes refuse. Such a graph is not for writing to a file.
   */
  internal?: boolean;
}

/** Replaces Q/DQ patterns by integer operators. Shapes need not be known. Linear. */
export function fuseQdq(graph: Graph, { internal = false }: FuseQdqOptions = {}): void {
  mergeQuantizers(graph);
  const captured = capturedValues(graph);
  const producesCodes = (node: Node): boolean =>
    ruleOf(node, internal) !== undefined && node.inputs.some((value) => isDequantize(value?.producer));
  moveQdq(graph, captured, internal, producesCodes);
  const fuser = new Fuser(graph, captured, internal);
  for (const node of graph.topologicalOrder()) fuser.visit(node);
  fuser.finish();
}

/** Quantizers of one value with equal parameters become one: exporters write a pair for every reader. */
function mergeQuantizers(graph: Graph): void {
  for (const node of graph.topologicalOrder()) {
    for (const value of node.outputs) if (value && value.consumerCount > 1) mergeQuantizersOf(graph, value);
  }
  for (const value of graph.inputs) if (value.consumerCount > 1) mergeQuantizersOf(graph, value);
}

function mergeQuantizersOf(graph: Graph, value: Value): void {
  const kept = new Map<string, Node>();
  for (const node of value.consumers) {
    // Those of bodies are none of this graph's business.
    const isOwn = isQuantize(node) && node.input(0) === value && graph.nodes.has(node);
    const params = isOwn ? paramsOf(node) : undefined;
    if (!params) continue;
    const key = `${node.domain} ${params.dtype} ${params.axis} ${params.scale.join()} ${params.zeroPoint.join()}`;
    const first = kept.get(key);
    if (!first) {
      kept.set(key, node);
    } else if (!graph.isOutput(node.output)) {
      graph.replaceAllUses(node.output, first.output);
      graph.removeNode(node);
    }
  }
}

/** Relu or Clip with constant bounds between an operator and its quantizer. */
interface Clamp {
  node: Node;
  min: number;
  max: number;
}

/** The quantizer behind an operator, which the integer operator takes over. */
interface Target {
  quantize: Node;
  params: PairParams;
  to: Quantization;
  clamp: Clamp | undefined;
}

/** An input that is dequantized with one scale. */
interface Operand {
  from: Dequantized;
  q: Quantization;
}

type Rule = (fuser: Fuser, node: Node) => void;

class Fuser {
  readonly graph: Graph;
  readonly internal: boolean;
  readonly #captured: ReadonlySet<Value>;

  constructor(graph: Graph, captured: ReadonlySet<Value>, internal: boolean) {
    this.graph = graph;
    this.#captured = captured;
    this.internal = internal;
  }

  visit(node: Node): void {
    if (!this.graph.nodes.has(node) || (node.domain !== '' && node.domain !== 'com.microsoft')) return;
    if (this.internal && fuseTable(this, node)) return;
    ruleOf(node, this.internal)?.(this, node);
  }

  /** Drops the Q and DQ nodes that nobody reads any more. */
  finish(): void {
    for (const node of [...this.graph.topologicalOrder()].reverse()) {
      if (!isDequantize(node) && !isQuantize(node)) continue;
      const value = node.output;
      if (value.consumerCount === 0 && !this.graph.isOutput(value) && !this.#captured.has(value))
        this.graph.removeNode(node);
    }
  }

  operand(value: Value | null): Operand | undefined {
    const from = dequantizedFrom(value);
    const q = perTensor(from);
    return from && q && { from, q };
  }

  /** The quantizer that alone reads the output of `node`, directly or behind a Relu or Clip. */
  target(node: Node): Target | undefined {
    if (node.outputs.some((value, i) => i > 0 && value)) return undefined;
    const { output } = node;
    const direct = onlyQuantizer(this.graph, output, this.#captured);
    if (direct) return { quantize: direct.node, params: direct.params, to: direct.to, clamp: undefined };
    const clamp = clampOf(onlyConsumer(this.graph, output, this.#captured), output);
    const behind = clamp && onlyQuantizer(this.graph, clamp.node.output, this.#captured);
    if (!clamp || !behind || !this.#canClamp(clamp, behind.to)) return undefined;
    return { quantize: behind.node, params: behind.params, to: behind.to, clamp };
  }

  /** Codes of the clamp's bounds. Rounding is monotone, so clamping codes is clamping reals. */
  #clampCodes({ min, max }: Clamp, { scale, zeroPoint, dtype }: Quantization): [number, number] {
    const [low, high] = codeRange(dtype);
    return [quantizeCode(min, scale, zeroPoint, low, high), quantizeCode(max, scale, zeroPoint, low, high)];
  }

  #isRedundant(clamp: Clamp, to: Quantization): boolean {
    const [low, high] = codeRange(to.dtype);
    const [min, max] = this.#clampCodes(clamp, to);
    return min <= low && max >= high;
  }

  #canClamp(clamp: Clamp, to: Quantization): boolean {
    // Clip takes 8-bit types from opset 12 on. Bounds in the wrong order are left to the float operator.
    return clamp.min <= clamp.max && (this.#isRedundant(clamp, to) || this.graph.opset() >= 12);
  }

  values(params: PairParams): [Value, Value] {
    return paramValues(this.graph, params);
  }

  /** Codes, scale and zero point, as inputs of an integer operator. */
  triple(from: Dequantized): [Value, Value, Value] {
    return [from.codes, ...this.values(from)];
  }

  /** Puts an integer operator in the place of `node`, the clamp behind it and the quantizer. */
  replace(
    node: Node,
    { quantize, to, clamp }: Target,
    op: string,
    domain: string,
    inputs: readonly (Value | null)[],
    attributes?: Attributes | AttributeInit,
    /** Adds the nodes that make the result from what the operator gives, if these are not one. */
    finish?: (codes: Value, result: Value) => void,
  ): void {
    const { graph } = this;
    const result = quantize.output;
    graph.removeNode(quantize);
    if (clamp) graph.removeNode(clamp.node);
    graph.removeNode(node);
    const clampNeeded = clamp && !this.#isRedundant(clamp, to);
    const codes = clampNeeded
      ? graph.newValue(`${result.name}_unclamped`, { dtype: to.dtype, shape: result.type?.shape })
      : result;
    const made = finish ? graph.newValue(`${result.name}_unfinished`, { dtype: to.dtype }) : codes;
    this.add(node.name, op, domain, inputs, made, attributes);
    finish?.(made, codes);
    if (clampNeeded) this.#addClamp(clamp, to, codes, result);
  }

  scalar(name: string, value: number): Value {
    return this.graph.newConstant(name, new Tensor('float32', [value], []));
  }

  #addClamp(clamp: Clamp, to: Quantization, codes: Value, result: Value): void {
    const { graph } = this;
    const { name } = clamp.node;
    const [min, max] = this.#clampCodes(clamp, to);
    if (this.internal) {
      const table = Uint8Array.from({ length: 256 }, (_, byte) => {
        const code = to.dtype === 'int8' ? (byte << 24) >> 24 : byte;
        return Math.min(Math.max(code, min), max) & 0xff;
      });
      this.addTable(name, codes, table, to, result);
      return;
    }
    const bound = (what: string, code: number) =>
      graph.newConstant(`${name}_${what}_code`, new Tensor(to.dtype, [code], []));
    this.add(name, 'Clip', '', [codes, bound('min', min), bound('max', max)], result);
  }

  addTable(name: string, codes: Value, table: Uint8Array, to: Quantization, result: Value): void {
    const constant = this.graph.newConstant(`${name}_table`, new Tensor('uint8', table));
    this.add(name, 'TableLookup', 'ai.q8', [codes, constant], result, {
      signed: { kind: 'int', value: to.dtype === 'int8' ? 1 : 0 },
    });
  }

  add(
    name: string,
    op: string,
    domain: string,
    inputs: readonly (Value | null)[],
    output: Value,
    attributes: Attributes | AttributeInit = {},
  ): void {
    if (domain !== '' && this.graph.opset(domain) === 0) this.graph.opsets.set(domain, 1);
    this.graph.addNode({ name, op, domain, inputs, outputs: [output], attributes });
  }
}

/** Relu or Clip with constant bounds that reads `value`. */
function clampOf(node: Node | undefined, value: Value): Clamp | undefined {
  if (node?.domain !== '' || node.input(0) !== value) return undefined;
  if (node.op === 'Relu') return { node, min: 0, max: Number.POSITIVE_INFINITY };
  // Below opset 11 the bounds are attributes, which upgrade-opset has turned into inputs.
  if (node.op !== 'Clip' || node.attributes.has('min') || node.attributes.has('max')) return undefined;
  const bound = (value: Value | null, none: number) => (value ? floatConstant(value)?.data[0] : none);
  const min = bound(node.input(1), Number.NEGATIVE_INFINITY);
  const max = bound(node.input(2), Number.POSITIVE_INFINITY);
  return min === undefined || max === undefined ? undefined : { node, min, max };
}

function attributesOf(node: Node): Attributes {
  return new Attributes(node.name, node.attributes.entries());
}

/** Type combinations that onnxruntime has kernels for; q8 runs all. */
function typesFit(fuser: Fuser, x: Quantization, w: string, y: Quantization | undefined): boolean {
  if (fuser.internal) return true;
  return (y === undefined || x.dtype === y.dtype) && (x.dtype === 'uint8' || w === 'int8');
}

/**
 * The int32 codes of a bias for scales fl(inputScale * weightScale): given as such (onnxruntime's tolerance of 1 % for its
 * scale), or rounded from a float constant, which changes a sum by less than half a unit. Undefined when it does not fit.
 */
function int32Bias(
  fuser: Fuser,
  value: Value,
  inputScale: number,
  weightScale: Float32Array,
  sizes: readonly number[],
): Value | undefined {
  const float = floatConstant(value);
  if (float) {
    if (!sizes.includes(float.size) || (weightScale.length > 1 && float.size !== weightScale.length)) return undefined;
    const { codes, scale } = quantizeBias(float.data, inputScale, weightScale);
    const fits = float.data.every((b, i) => Math.abs(b / scale[scale.length === 1 ? 0 : i]) < 2 ** 31);
    return fits ? fuser.graph.newConstant(`${value.name}_quantized`, new Tensor('int32', codes)) : undefined;
  }
  const node = value.producer;
  const params = isDequantize(node) ? paramsOf(node) : undefined;
  if (!node || params?.dtype !== 'int32' || params.zeroPoint.some((z) => z !== 0)) return undefined;
  const codes = node.requiredInput(0);
  const size = codes.constant?.size;
  if (size === undefined || !sizes.includes(size)) return undefined;
  const count = Math.max(params.scale.length, weightScale.length);
  for (let i = 0; i < count; i++) {
    const wanted = inputScale * weightScale[weightScale.length === 1 ? 0 : i];
    const given = params.scale[params.scale.length === 1 ? 0 : i];
    if (!(Math.abs(given - wanted) <= 0.01 * wanted)) return undefined;
  }
  return codes;
}

/** A dequantized constant or activation with one scale, or one per index of `axis`. */
function matrixOperand(value: Value | null, axis: number | undefined): Dequantized | undefined {
  const from = dequantizedFrom(value);
  if (!from) return undefined;
  if (from.axis === undefined) return from;
  const rank = from.codes.constant?.dims.length ?? from.codes.type?.shape?.length;
  if (rank === undefined || axis === undefined) return undefined;
  return (from.axis < 0 ? from.axis + rank : from.axis) === axis ? from : undefined;
}

function fuseConv(fuser: Fuser, node: Node): void {
  const x = fuser.operand(node.input(0));
  const w = matrixOperand(node.input(1), 0);
  const target = fuser.target(node);
  if (!x || !w || !target || !typesFit(fuser, x.q, w.dtype, target.to)) return;
  if (!fuser.internal && !w.zeroPoint.every((z) => z === w.zeroPoint[0])) return;
  const inputs = [...fuser.triple(x.from), ...fuser.triple(w), ...fuser.values(target.params)];
  const bias = node.input(2);
  if (bias) {
    const channels = w.codes.constant?.dims[0] ?? w.scale.length;
    const codes = int32Bias(fuser, bias, x.q.scale, w.scale, [channels]);
    if (!codes) return;
    inputs.push(codes);
  }
  fuser.replace(node, target, 'QLinearConv', '', inputs, attributesOf(node));
}

/** ONNX has no integer form of it: q8's own, inside sessions. Scales per channel are those of the only group. */
function fuseConvTranspose(fuser: Fuser, node: Node): void {
  const x = fuser.operand(node.input(0));
  const w = matrixOperand(node.input(1), 1);
  const group = node.attributes.int('group', 1);
  const target = fuser.target(node);
  if (!x || !w || !target || (w.scale.length > 1 && group !== 1)) return;
  const inputs = [...fuser.triple(x.from), ...fuser.triple(w), ...fuser.values(target.params)];
  const bias = node.input(2);
  if (bias) {
    const outputs = w.codes.constant?.dims[1];
    const channels = outputs === undefined ? w.scale.length : outputs * group;
    const codes = int32Bias(fuser, bias, x.q.scale, w.scale, [channels]);
    if (!codes) return;
    inputs.push(codes);
  }
  fuser.replace(node, target, 'QLinearConvTranspose', 'ai.q8', inputs, attributesOf(node));
}

function fuseMatMul(fuser: Fuser, node: Node): void {
  const a = fuser.operand(node.input(0));
  const rank = node.input(1)?.producer?.input(0)?.constant?.dims.length;
  // Scales per column are defined alike by all runtimes for matrices only.
  const b = matrixOperand(node.input(1), rank === 2 ? 1 : undefined);
  if (!a || !b) return;
  const target = fuser.target(node);
  if (!typesFit(fuser, a.q, b.dtype, target?.to)) return;
  if (target) {
    fuser.replace(node, target, 'QLinearMatMul', '', [
      ...fuser.triple(a.from),
      ...fuser.triple(b),
      ...fuser.values(target.params),
    ]);
    return;
  }
  const [aScale, aZeroPoint] = fuser.values(a.from);
  const [bScale, bZeroPoint] = fuser.values(b);
  const { name, output } = node;
  fuser.graph.removeNode(node);
  const inputs = [a.from.codes, b.codes, aScale, bScale, aZeroPoint, bZeroPoint];
  fuser.add(name, 'MatMulIntegerToFloat', 'com.microsoft', inputs, output);
}

function fuseGemm(fuser: Fuser, node: Node): void {
  const { attributes } = node;
  const a = fuser.operand(node.input(0));
  const b = matrixOperand(node.input(1), attributes.int('transB', 0) ? 0 : 1);
  if (!a || !b) return;
  const target = fuser.target(node);
  if (!typesFit(fuser, a.q, b.dtype, target?.to)) return;
  const alpha = attributes.float('alpha', 1);
  const bias = node.input(2);
  let c: Value | null = null;
  if (bias) {
    // QGemm multiplies the int32 sum, bias included, by alpha.
    const columns = b.codes.constant?.dims[attributes.int('transB', 0) ? 0 : 1] ?? b.scale.length;
    const found = int32Bias(fuser, bias, Math.fround(alpha * a.q.scale), b.scale, [1, columns]);
    if (!found || attributes.float('beta', 1) !== 1) return;
    c = found;
  }
  const inputs = [...fuser.triple(a.from), ...fuser.triple(b), c];
  const kept = attributesOf(node);
  kept.delete('beta');
  if (target) {
    fuser.replace(node, target, 'QGemm', 'com.microsoft', [...inputs, ...fuser.values(target.params)], kept);
    return;
  }
  const { name, output } = node;
  fuser.graph.removeNode(node);
  fuser.add(name, 'QGemm', 'com.microsoft', inputs, output, kept);
}

function fuseBinary(fuser: Fuser, node: Node): void {
  const a = fuser.operand(node.input(0));
  const b = fuser.operand(node.input(1));
  const target = a && b && fuser.target(node);
  if (!target) return;
  if (!fuser.internal && (a.q.dtype !== b.q.dtype || a.q.dtype !== target.to.dtype)) return;
  const [codes, scale, zeroPoint] = fuser.triple(b.from);
  // There is no difference of codes, but a sum with a negative scale.
  const bScale = node.op === 'Sub' ? fuser.scalar(`${scale.name}_negated`, -b.q.scale) : scale;
  const inputs = [...fuser.triple(a.from), codes, bScale, zeroPoint, ...fuser.values(target.params)];
  fuser.replace(node, target, node.op === 'Mul' ? 'QLinearMul' : 'QLinearAdd', 'com.microsoft', inputs);
}

/** Division by a number is a product with the code 1, or minus 1, whose scale is the reciprocal. */
function fuseDiv(fuser: Fuser, node: Node): void {
  const x = fuser.operand(node.input(0));
  const divisor = node.input(1) && scalarConstant(fuser, node.requiredInput(1));
  const target = x && divisor && fuser.target(node);
  if (!target || (!fuser.internal && x.q.dtype !== target.to.dtype)) return;
  const factor = Math.fround(1 / (divisor.data as Float32Array)[0]);
  if (!Number.isFinite(factor) || factor === 0) return;
  const code = (what: string, value: number): Value =>
    fuser.graph.newConstant(`${node.name}_${what}`, new Tensor(x.q.dtype, [value], []));
  fuser.replace(node, target, 'QLinearMul', 'com.microsoft', [
    ...fuser.triple(x.from),
    code('sign', factor > 0 ? 1 : 0),
    fuser.scalar(`${node.name}_factor`, Math.abs(factor)),
    code('zero_point', factor > 0 ? 0 : 1),
    ...fuser.values(target.params),
  ]);
}

/** PRelu with one slope is LeakyRelu. */
function fusePRelu(fuser: Fuser, node: Node): void {
  const slope = node.input(1) && scalarConstant(fuser, node.requiredInput(1));
  if (!slope) return;
  const alpha = (slope.data as Float32Array)[0];
  fuseUnary(fuser, node, 'QLinearLeakyRelu', Attributes.of(node.name, { alpha: { kind: 'float', value: alpha } }));
}

/** The larger or smaller of codes on one scale. */
function fuseSelection(fuser: Fuser, node: Node): void {
  const target = fuser.target(node);
  // For the runtime, floats between are as exact, and faster: its kernels select floats.
  if (!target || fuser.internal || fuser.graph.opset() < 12) return;
  const codes: Value[] = [];
  for (const value of node.inputs) {
    const operand = fuser.operand(value);
    if (!operand || !sameQuantization(operand.q, target.to)) return;
    codes.push(operand.from.codes);
  }
  fuser.replace(node, target, node.op, '', codes);
}

/** X, its parameters, the output's parameters: what pooling and activations have in common. */
function fuseUnary(
  fuser: Fuser,
  node: Node,
  op = `QLinear${node.op}`,
  attributes: Attributes = attributesOf(node),
): void {
  const x = fuser.operand(node.input(0));
  const target = x && fuser.target(node);
  if (!target || (!fuser.internal && x.q.dtype !== target.to.dtype)) return;
  const inputs = [...fuser.triple(x.from), ...fuser.values(target.params)];
  fuser.replace(node, target, op, 'com.microsoft', inputs, attributes);
}

function fuseAveragePool(fuser: Fuser, node: Node): void {
  if ((node.attributes.ints('dilations') ?? []).some((d) => d !== 1)) return;
  const attributes = attributesOf(node);
  attributes.delete('dilations');
  fuseUnary(fuser, node, 'QLinearAveragePool', attributes);
}

/** A mean is global average pooling of the input with the axes to keep in front. */
function fuseReduceMean(fuser: Fuser, node: Node): void {
  const { graph } = fuser;
  const x = fuser.operand(node.input(0));
  const view = meanView(node);
  const target = x && view && fuser.target(node);
  if (!target || (!fuser.internal && x.q.dtype !== target.to.dtype)) return;
  const { kept, reduced, keepDims } = view;
  const pools = kept.length === 2 && kept[1] === 1;
  // Axes of Squeeze and Unsqueeze are inputs from opset 13 on.
  if (!(pools && keepDims) && graph.opset() < 13) return;
  const { name } = node;
  const { dtype } = x.q;
  const move = (op: string, value: Value, what: string, axes: readonly number[], output?: Value): Value => {
    const moved = output ?? graph.newValue(`${name}_${what}`, { dtype });
    const isTranspose = op === 'Transpose';
    const axesValue = isTranspose ? [] : [graph.newConstant(`${name}_${what}_axes`, new Tensor('int64', [...axes]))];
    const attributes: AttributeInit = isTranspose ? { perm: { kind: 'ints', value: [...axes] } } : {};
    fuser.add(graph.uniqueName(`${name}_${what}`), op, '', [value, ...axesValue], moved, attributes);
    return moved;
  };
  const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
  let codes = x.from.codes;
  if (!pools && kept.length > 0) codes = move('Transpose', codes, 'kept_first', [...kept, ...reduced]);
  if (kept.length < 2) codes = move('Unsqueeze', codes, 'planes', range(kept.length, 2));
  const rest = (pooled: Value, result: Value): void => {
    const squeezed = move(
      'Squeeze',
      pooled,
      'squeezed',
      range(kept.length, Math.max(2, kept.length) + reduced.length),
      keepDims ? undefined : result,
    );
    if (keepDims) move('Unsqueeze', squeezed, 'restored', reduced, result);
  };
  const scales = [x.from, target.params].flatMap((params) => fuser.values(params));
  fuser.replace(
    node,
    target,
    'QLinearGlobalAveragePool',
    'com.microsoft',
    [codes, ...scales],
    {},
    pools && keepDims ? undefined : rest,
  );
}

/**
 * Onnxruntime's kernel multiplies by floor(1 / scale) and wraps for int8, so the integer form is only used where that is
 * right; q8 itself runs softmax in float.
 */
function fuseSoftmax(fuser: Fuser, node: Node): void {
  if (fuser.internal) return;
  const target = fuser.target(node);
  if (target?.to.dtype !== 'uint8' || target.to.zeroPoint !== 0 || !Number.isInteger(1 / target.to.scale)) return;
  const attributes = attributesOf(node);
  const opset = fuser.graph.opset();
  attributes.set('opset', { kind: 'int', value: opset });
  // The operator has no default of its own for the axis.
  if (!attributes.has('axis')) attributes.set('axis', { kind: 'int', value: opset < 13 ? 1 : -1 });
  fuseUnary(fuser, node, 'QLinearSoftmax', attributes);
}

function fuseConcat(fuser: Fuser, node: Node): void {
  const operands = node.inputs.map((value) => fuser.operand(value));
  const target = fuser.target(node);
  if (!target) return;
  const inputs = fuser.values(target.params) as Value[];
  for (const operand of operands) {
    if (!operand || (!fuser.internal && operand.q.dtype !== target.to.dtype)) return;
    inputs.push(...fuser.triple(operand.from));
  }
  fuser.replace(node, target, 'QLinearConcat', 'com.microsoft', inputs, attributesOf(node));
}

function fuseWhere(fuser: Fuser, node: Node): void {
  const x = fuser.operand(node.input(1));
  const y = fuser.operand(node.input(2));
  const target = x && y && fuser.target(node);
  if (!target) return;
  if (!fuser.internal && (x.q.dtype !== y.q.dtype || x.q.dtype !== target.to.dtype)) return;
  fuser.replace(node, target, 'QLinearWhere', 'com.microsoft', [
    node.requiredInput(0),
    ...fuser.triple(x.from),
    ...fuser.triple(y.from),
    ...fuser.values(target.params),
  ]);
}

/** Relu or Clip between equal parameters: a Clip of codes. */
function fuseClamp(fuser: Fuser, node: Node): void {
  const input = node.input(0);
  const x = fuser.operand(input);
  const clamp = input && clampOf(node, input);
  const target = x && fuser.target(node);
  if (!clamp || !target || target.clamp || fuser.graph.opset() < 12 || clamp.min > clamp.max) return;
  const { to } = target;
  if (!sameQuantization(x.q, to)) return;
  const [low, high] = codeRange(to.dtype);
  const bound = (what: string, real: number) =>
    fuser.graph.newConstant(
      `${node.name}_${what}_code`,
      new Tensor(to.dtype, [quantizeCode(real, to.scale, to.zeroPoint, low, high)], []),
    );
  fuser.replace(node, target, 'Clip', '', [x.from.codes, bound('min', clamp.min), bound('max', clamp.max)]);
}

const RULES = new Map<string, Rule>([
  ['Conv', fuseConv],
  ['MatMul', fuseMatMul],
  ['Gemm', fuseGemm],
  ['Add', fuseBinary],
  ['Sub', fuseBinary],
  ['Div', fuseDiv],
  ['PRelu', fusePRelu],
  ['Max', fuseSelection],
  ['Min', fuseSelection],
  ['Mul', fuseBinary],
  ['GlobalAveragePool', fuseUnary],
  ['AveragePool', fuseAveragePool],
  ['ReduceMean', fuseReduceMean],
  ['Sigmoid', fuseUnary],
  ['LeakyRelu', fuseUnary],
  ['Softmax', fuseSoftmax],
  ['Concat', fuseConcat],
  ['Where', fuseWhere],
  ['Relu', fuseClamp],
  ['Clip', fuseClamp],
]);

/** Those whose integer operator is q8's own. */
const INTERNAL_RULES = new Map<string, Rule>([['ConvTranspose', fuseConvTranspose]]);

function ruleOf(node: Node, internal: boolean): Rule | undefined {
  return RULES.get(node.op) ?? (internal ? INTERNAL_RULES.get(node.op) : undefined);
}

/** Elementwise operators of one code: 256 results say all. */
const TABLE_OPS = new Set(
  (
    'Abs Add Ceil Celu Clip Div Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Max Min Mish Mul Neg Pow PRelu ' +
    'Reciprocal Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Sub Swish Tanh ThresholdedRelu FastGelu QuickGelu'
  ).split(' '),
);

/**
 * DQ -> elementwise operator with constant scalars for its other operands -> Q becomes a table of codes, filled by the
 * operator itself; so does DQ -> Q with different parameters. Returns whether it did.
 */
function fuseTable(fuser: Fuser, node: Node): boolean {
  if (node.op === 'QuantizeLinear') return fuseRescale(fuser, node);
  const definition = TABLE_OPS.has(node.op) ? lookupOp(node) : undefined;
  const target = definition && fuser.target(node);
  if (!definition || !target) return false;
  let x: Operand | undefined;
  const feeds: (Tensor | null)[] = [];
  for (const value of node.inputs) {
    const scalar = value && scalarConstant(fuser, value);
    const operand = value && !scalar ? fuser.operand(value) : undefined;
    // Twice the same tensor (x * x) is one code still.
    if (value && !scalar && (!operand || (x && x.from.node !== operand.from.node))) return false;
    if (operand) x = operand;
    feeds.push(
      operand ? new Tensor('float32', dequantizeTensor(everyCode(operand.q), operand.q), [256]) : (scalar ?? null),
    );
  }
  if (!x) return false;
  const opset = fuser.graph.opset(node.domain);
  const [reals] = definition.run(feeds, {
    node,
    opset,
    outputCount: 1,
    runSubgraph: () => [],
  });
  if (reals.type !== 'float32' || reals.size !== 256) return false;
  const { to, clamp } = target;
  let values = reals.data as Float32Array;
  if (clamp) values = values.map((v) => Math.min(Math.max(v, clamp.min), clamp.max));
  const codes = quantizeTensor(values, [256], to);
  const bytes = codes.data as Uint8Array | Int8Array;
  const { codes: input } = x.from;
  const result = target.quantize.output;
  fuser.graph.removeNode(target.quantize);
  if (clamp) fuser.graph.removeNode(clamp.node);
  fuser.graph.removeNode(node);
  fuser.addTable(node.name, input, new Uint8Array(bytes.buffer, bytes.byteOffset, 256), to, result);
  return true;
}

function fuseRescale(fuser: Fuser, node: Node): boolean {
  const x = fuser.operand(node.input(0));
  const to = perTensor(paramsOf(node));
  if (!x || !to || x.from.codes.constant) return false;
  const { name, output } = node;
  fuser.graph.removeNode(node);
  fuser.addTable(
    name,
    x.from.codes,
    codeTable(x.q, to, (value) => value),
    to,
    output,
  );
  return true;
}

/** A constant of one element and rank 0 or 1, also behind DQ: it does not change the shape of what it is combined with. */
function scalarConstant(fuser: Fuser, value: Value): Tensor | undefined {
  const tensor = floatConstant(value);
  if (tensor) return tensor.size === 1 && tensor.dims.length <= 1 ? tensor : undefined;
  const operand = fuser.operand(value);
  const codes = operand?.from.codes.constant;
  if (!operand || codes?.size !== 1 || codes.dims.length > 1) return undefined;
  return new Tensor('float32', dequantizeTensor(codes, operand.q), codes.dims);
}

/** All codes, by byte pattern. */
function everyCode({ dtype }: Quantization): Tensor {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  return dtype === 'uint8' ? new Tensor('uint8', bytes) : new Tensor('int8', new Int8Array(bytes.buffer));
}
