/**
 * Carries Q/DQ through operators that only move or select elements (Reshape, MaxPool, ...): they then work on codes, and
 * the compute operators on both sides meet. Exact: moving commutes with any elementwise function, selecting the largest or
 * smallest with any that is monotone.
 */
import { Attributes } from '../graph/attributes';
import type { Graph, Node, Value } from '../graph/graph';
import { dequantizeCode, type Quantization, quantizeCode, sameQuantization } from '../ops/families/quantization';
import { codeRange } from '../tensor/dtype';
import { transpose } from '../ops/families/strided';
import { Tensor } from '../tensor/tensor';
import { onlyConsumer } from './matching';
import { type Dequantized, dequantizedFrom, paramsOf, paramValues, perTensor } from './qdq-pairs';

/** Moving operators, and the opset from which each takes 8-bit codes. */
const MOVES = new Map([
  ['DepthToSpace', 1],
  ['Expand', 8],
  ['Flatten', 9],
  ['Gather', 1],
  ['GatherElements', 11],
  ['GatherND', 11],
  ['Identity', 1],
  ['Pad', 13],
  ['Reshape', 5],
  ['Resize', 11],
  ['Slice', 1],
  ['Split', 2],
  ['Squeeze', 1],
  ['Tile', 6],
  ['Transpose', 1],
  ['Unsqueeze', 1],
]);

/** Moving operators that take 8-bit codes in q8 only. */
const OWN_MOVES = new Map([
  ['SpaceToDepth', 1],
  ['TopK', 1],
]);

/** Operators that select by order. */
const SELECTIONS = new Map([
  ['MaxPool', 12],
  ['ReduceMax', 12],
  ['ReduceMin', 12],
]);

/**
 * Moves every DequantizeLinear down and, where a node for which `producesCodes` holds is at the upper end, every
 * QuantizeLinear up; then drops DQ-Q pairs that cancel. Linear.
 */
export function moveQdq(
  graph: Graph,
  captured: ReadonlySet<Value>,
  internal: boolean,
  producesCodes: (node: Node) => boolean,
): void {
  const order = graph.topologicalOrder();
  for (let i = order.length - 1; i >= 0; i--) {
    if (graph.nodes.has(order[i]) && order[i].op === 'QuantizeLinear')
      pullUp(graph, order[i], captured, internal, producesCodes);
  }
  for (const node of graph.topologicalOrder()) {
    if (node.op === 'Concat') pushThroughConcat(graph, node, captured);
    else if (node.op === 'QuantizeLinear') cancel(graph, node, captured);
    else if (asksOnly(graph, node)) readCodes(node);
    else pushDown(graph, node, captured, internal);
  }
}

/** Whether the node asks for something that codes tell as well: their shape, or which of them is the largest. */
function asksOnly(graph: Graph, { op, domain }: Node): boolean {
  if (domain !== '') return false;
  return op === 'Shape' || op === 'Size' || ((op === 'ArgMax' || op === 'ArgMin') && graph.opset() >= 13);
}

/** The value on which `node` works when it only moves elements of input 0. */
function movedInput(graph: Graph, node: Node, internal: boolean): Value | undefined {
  if (node.domain !== '') return undefined;
  const since = MOVES.get(node.op) ?? SELECTIONS.get(node.op) ?? (internal ? OWN_MOVES.get(node.op) : undefined);
  if (since === undefined || graph.opset() < since) return undefined;
  if (node.op === 'Resize' && !isNearest(node)) return undefined;
  if (SELECTIONS.has(node.op) && node.outputs.some((value, i) => i > 0 && value)) return undefined;
  return node.requiredInput(0);
}

function isNearest({ attributes }: Node): boolean {
  const crops = attributes.string('coordinate_transformation_mode', 'half_pixel') === 'tf_crop_and_resize';
  return attributes.string('mode', 'nearest') === 'nearest' && !crops && attributes.int('antialias', 0) === 0;
}

/** Whether a Pad with a constant value; other modes repeat elements. */
function padsValue(node: Node): boolean {
  return node.op === 'Pad' && node.attributes.string('mode', 'constant') === 'constant';
}

/** The code that stands for a Pad's value; undefined when the value is computed, or `exact` and not among the reals. */
function padCode(node: Node, to: Quantization, exact: boolean): number | undefined {
  const value = node.input(2);
  if (value && !value.constant) return undefined;
  const real = value ? Number((value.constant!.data as Float32Array)[0]) : 0;
  const code = quantizeCode(real, to.scale, to.zeroPoint, ...codeRange(to.dtype));
  return exact && dequantizeCode(code, to.scale, to.zeroPoint) !== real ? undefined : code;
}

/** The same operator on codes, in the place of `node`. */
function onCodes(graph: Graph, node: Node, codes: Value, outputs: readonly (Value | null)[], to: Quantization): void {
  const inputs = node.inputs.map((value, i) => (i === 0 ? codes : value));
  if (padsValue(node)) {
    while (inputs.length < 3) inputs.push(null);
    inputs[2] = graph.newConstant(`${node.name}_pad_code`, new Tensor(to.dtype, [padCode(node, to, false)!], []));
  }
  graph.removeNode(node);
  graph.addNode({
    name: node.name,
    op: node.op,
    inputs,
    outputs,
    attributes: new Attributes(node.name, node.attributes.entries()),
  });
}

/** x -> moves -> Q becomes x -> Q -> moves. */
function pullUp(
  graph: Graph,
  quantize: Node,
  captured: ReadonlySet<Value>,
  internal: boolean,
  producesCodes: (node: Node) => boolean,
): void {
  const params = paramsOf(quantize);
  const to = perTensor(params);
  if (!params || !to) return;
  const moves: Node[] = [];
  let top = quantize.requiredInput(0);
  const next = () => movedThrough(graph, top, captured, internal, to);
  for (let input = next(); input; input = next()) {
    moves.push(top.producer!);
    top = input;
  }
  if (moves.length === 0) return;
  // Worth it when an integer operator can then end in codes, or to move bytes instead of floats; not in order to quantize
  // what a float pooling is about to shrink.
  const { producer } = top;
  const isInput = producer === null && top.constant === undefined && !moves.some((node) => SELECTIONS.has(node.op));
  if (!isInput && !(producer && producesCodes(producer))) return;

  const result = quantize.output;
  graph.removeNode(quantize);
  let codes = graph.newValue(`${top.name}_QuantizeLinear_Output`, { dtype: to.dtype, shape: top.type?.shape });
  graph.addNode({
    name: quantize.name,
    op: 'QuantizeLinear',
    domain: quantize.domain,
    inputs: [top, ...paramValues(graph, params)],
    outputs: [codes],
  });
  for (let i = moves.length - 1; i >= 0; i--) {
    const moved =
      i === 0
        ? result
        : graph.newValue(`${moves[i].output.name}_codes`, { dtype: to.dtype, shape: moves[i].output.type?.shape });
    onCodes(graph, moves[i], codes, [moved], to);
    codes = moved;
  }
}

/** Input of the move that makes `value` for one reader only; undefined when it is no such thing. */
function movedThrough(
  graph: Graph,
  value: Value,
  captured: ReadonlySet<Value>,
  internal: boolean,
  to: Quantization,
): Value | undefined {
  const node = value.producer;
  if (!node || node.outputs.some((other, i) => i > 0 && other) || !onlyConsumer(graph, value, captured))
    return undefined;
  const input = movedInput(graph, node, internal);
  if (!input || input.constant || input.producer?.op === 'DequantizeLinear') return undefined;
  if (padsValue(node) && padCode(node, to, false) === undefined) return undefined;
  return input;
}

/** codes -> DQ -> move becomes codes -> move -> DQ. */
function pushDown(graph: Graph, node: Node, captured: ReadonlySet<Value>, internal: boolean): void {
  const input = movedInput(graph, node, internal);
  const from = input && dequantizedFrom(input);
  if (!from || node.outputs.some((value) => value && captured.has(value))) return;
  // Rows of a table of codes are codes; other constants are folded with what reads them.
  if (from.codes.constant && node.op !== 'Gather') {
    if (node.op === 'Transpose') transposeConstant(graph, node, from);
    return;
  }
  const params = perTensor(from);
  if (!params || (!internal && node.op === 'DepthToSpace' && params.dtype === 'int8')) return;
  if (padsValue(node) && padCode(node, params, true) === undefined) return;
  const outputs = [...node.outputs];
  // Behind the largest elements, TopK gives their indices.
  const isMoved = (i: number): boolean => node.op !== 'TopK' || i === 0;
  const moved = outputs.map((value, i) =>
    value && isMoved(i)
      ? graph.newValue(`${value.name}_codes`, { dtype: params.dtype, shape: value.type?.shape })
      : value,
  );
  onCodes(graph, node, from.codes, moved, params);
  outputs.forEach((value, i) => {
    if (value && isMoved(i)) dequantize(graph, moved[i]!, from, value);
  });
}

/** Codes have the shape and, on one scale, the order of what they stand for. */
function readCodes(node: Node): void {
  const from = dequantizedFrom(node.requiredInput(0));
  if (from && (from.axis === undefined || node.op === 'Shape' || node.op === 'Size')) node.setInput(0, from.codes);
}

/** A weight behind DQ and Transpose becomes a transposed weight behind DQ. */
function transposeConstant(graph: Graph, node: Node, from: Dequantized): void {
  const tensor = from.codes.constant!;
  const rank = tensor.dims.length;
  const perm = node.attributes.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  if (perm.length !== rank) return;
  const axis = from.axis === undefined ? undefined : perm.indexOf(from.axis < 0 ? from.axis + rank : from.axis);
  const { output } = node;
  graph.removeNode(node);
  dequantize(graph, graph.newConstant(`${from.codes.name}_transposed`, transpose(tensor, perm)), from, output, axis);
}

function dequantize(graph: Graph, codes: Value, from: Dequantized, output: Value, axis?: number): void {
  graph.addNode({
    name: graph.uniqueName(`${output.name}_DequantizeLinear`),
    op: 'DequantizeLinear',
    domain: from.node.domain,
    inputs: [codes, ...paramValues(graph, from)],
    outputs: [output],
    attributes: axis === undefined ? {} : { axis: { kind: 'int', value: axis } },
  });
}

/** Inputs that all have the same scale are concatenated as codes. */
function pushThroughConcat(graph: Graph, node: Node, captured: ReadonlySet<Value>): void {
  if (node.domain !== '' || captured.has(node.output)) return;
  const inputs = node.inputs.map(dequantizedFrom);
  const first = perTensor(inputs[0]);
  if (!first) return;
  for (const input of inputs) {
    const params = perTensor(input);
    if (!params || !sameQuantization(params, first)) return;
  }
  const { name, output } = node;
  const codes = graph.newValue(`${output.name}_codes`, { dtype: first.dtype, shape: output.type?.shape });
  const attributes = new Attributes(name, node.attributes.entries());
  graph.removeNode(node);
  graph.addNode({ name, op: 'Concat', inputs: inputs.map((input) => input!.codes), outputs: [codes], attributes });
  dequantize(graph, codes, inputs[0]!, output);
}

/** codes -> DQ -> Q with equal parameters: the codes themselves. */
function cancel(graph: Graph, node: Node, captured: ReadonlySet<Value>): void {
  const from = dequantizedFrom(node.requiredInput(0));
  const source = perTensor(from);
  const target = perTensor(paramsOf(node));
  if (!from || !source || !target || !sameQuantization(source, target)) return;
  if (captured.has(node.output) || graph.isOutput(node.output)) return;
  graph.replaceAllUses(node.output, from.codes);
  graph.removeNode(node);
}
