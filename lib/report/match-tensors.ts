/**
 * Which tensors two models have in common. Quantizers derive names: the codes of tensor "x" are "x_QuantizeLinear_Output",
 * those of weight "w" are "w_quantized". This file undoes that and finds the scale that gives codes their meaning.
 */
import type { Graph, Node, Value } from '../graph/graph';
import type { CodeParams, RealTensor } from '../passes/give-out';
import type { DType } from '../tensor/dtype';

/** The same tensor in two models; tensors are named as the float model calls them. */
export interface TensorPair {
  name: string;
  reference: RealTensor;
  other: RealTensor;
}

const DERIVED_NAME = /_(?:QuantizeLinear_(?:Input|Output)|DequantizeLinear_Output|quantized)(?:_\d+)?$/;

/** The name of the tensor in the float model. */
export function originalName(name: string): string {
  return name.replace(DERIVED_NAME, '');
}

/** Tensors that both graphs compute, in the reference's execution order. Types must have been inferred. */
export function matchActivations(reference: Graph, other: Graph): TensorPair[] {
  const theirs = activationsOf(other);
  return [...activationsOf(reference).values()].flatMap((mine) => {
    const twin = theirs.get(mine.name);
    // An input that both read as it is tells nothing.
    return twin && (mine.value.producer || twin.value.producer)
      ? [{ name: mine.name, reference: mine, other: twin }]
      : [];
  });
}

/** Float constants of the reference of which the other graph holds codes (or other floats), each once. */
export function matchWeights(reference: Graph, other: Graph): TensorPair[] {
  const floats = new Map(
    reference
      .constants()
      .flatMap((value) => (value.constant?.type === 'float32' ? [[value.name, value] as const] : [])),
  );
  const pairs = new Map<string, TensorPair>();
  for (const found of weightsOf(other)) {
    const value = floats.get(found.name);
    if (!value || !sameDims(value, found.value) || pairs.has(found.name)) continue;
    pairs.set(found.name, { name: found.name, reference: { name: found.name, value }, other: found });
  }
  return [...pairs.values()];
}

/** By original name. Where a tensor exists as floats and as codes, the codes: they are what the model goes on with. */
function activationsOf(graph: Graph): Map<string, RealTensor> {
  const found = new Map<string, RealTensor>();
  const params = new Map<Value, CodeParams>();
  const add = (value: Value): void => {
    const name = originalName(value.name);
    const earlier = found.get(name);
    const codes = params.get(value);
    if (codes) found.set(name, { name, value, params: codes });
    else if (value.type?.dtype === 'float32' && (!earlier || (!earlier.params && value.name === name)))
      found.set(name, { name, value });
  };
  for (const value of graph.inputs) add(value);
  for (const node of graph.topologicalOrder()) {
    for (const value of node.outputs) {
      if (!value) continue;
      const codes = isCodes(value.type?.dtype) ? paramsOfOutput(node, params) : undefined;
      if (codes) params.set(value, codes);
      add(value);
    }
  }
  return found;
}

/** Parameters of the codes that a node gives: its own, or those of the codes that it moves. */
function paramsOfOutput(node: Node, known: ReadonlyMap<Value, CodeParams>): CodeParams | undefined {
  if (node.op === 'QuantizeLinear') return paramsAt(node, 1, 2, node.attributes.int('axis', 1));
  if (node.op === 'QLinearConv') return paramsAt(node, 6, 7);
  if (node.op === 'QLinearConcat') return paramsAt(node, 0, 1);
  if (/^(QLinear|QGemm$)/.test(node.op)) return paramsAt(node, node.inputs.length - 2, node.inputs.length - 1);
  const moved = node.input(0);
  const inherited = moved ? known.get(moved) : undefined;
  // Codes with a scale per index do not survive a change of shape.
  return inherited?.axis === undefined ? inherited : undefined;
}

function paramsAt(node: Node, scaleAt: number, zeroPointAt: number, axis = 0): CodeParams | undefined {
  const scale = node.input(scaleAt);
  const zeroPoint = node.input(zeroPointAt);
  if (scale?.constant?.type !== 'float32' || (zeroPoint && !zeroPoint.constant)) return undefined;
  if (scale.constant.dims.length > 1 || node.attributes.int('block_size', 0) !== 0) return undefined;
  return { scale, zeroPoint, axis: scale.constant.size === 1 ? undefined : axis };
}

function* weightsOf(graph: Graph): Generator<RealTensor> {
  const constants = new Map(graph.constants().map((value) => [value.name, value]));
  for (const node of graph.nodes) {
    for (const [index, value] of node.inputs.entries()) {
      if (!value?.constant) continue;
      const name = originalName(value.name);
      if (value.constant.type === 'float32') {
        yield { name, value };
      } else if (isCodes(value.constant.type)) {
        const params = weightParams(node, index, value, constants.get(`${name}_scale`));
        if (params) yield { name, value, params };
      }
    }
  }
}

/** Integer operators take codes, scale and zero point in a row, but for a few. */
function weightParams(node: Node, index: number, codes: Value, namedScale: Value | undefined): CodeParams | undefined {
  const rank = codes.constant!.dims.length;
  const last = rank - 1;
  switch (node.op) {
    case 'DequantizeLinear': {
      const axis = node.attributes.int('axis', 1);
      return index === 0 ? paramsAt(node, 1, 2, axis < 0 ? axis + rank : axis) : undefined;
    }
    case 'QGemm':
      return paramsAt(node, index + 1, index + 2, node.attributes.int('transB', 0) ? 0 : last);
    case 'MatMulIntegerToFloat':
      return index === 1 ? paramsAt(node, 3, 5, last) : undefined;
    case 'MatMulInteger':
    case 'ConvInteger': {
      // The scale is applied to the sums, further down; by name it is found all the same.
      const zeroPoint = node.input(3);
      if (index !== 1 || namedScale?.constant?.type !== 'float32' || (zeroPoint && !zeroPoint.constant))
        return undefined;
      const { size } = namedScale.constant;
      return { scale: namedScale, zeroPoint, axis: size === 1 ? undefined : node.op === 'ConvInteger' ? 0 : last };
    }
    default:
      return node.op.startsWith('QLinear')
        ? paramsAt(node, index + 1, index + 2, node.op === 'QLinearMatMul' ? last : 0)
        : undefined;
  }
}

function isCodes(dtype: DType | undefined): boolean {
  return dtype === 'uint8' || dtype === 'int8' || dtype === 'uint16' || dtype === 'int16';
}

function sameDims(a: Value, b: Value): boolean {
  return a.constant!.dims.join() === b.constant!.dims.join();
}
