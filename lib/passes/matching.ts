/** What several passes ask of a graph before they rewrite it, or do to it. */
import type { Graph, Node, Value } from '../graph/graph';
import { onnxCodeOf } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';

/** Values that bodies of control-flow nodes take from this graph: whoever rewrites their producers would not see it. Linear. */
export function capturedValues(graph: Graph): Set<Value> {
  const captured = new Set<Value>();
  for (const node of graph.bodyOwners) for (const value of graph.capturedBy(node)) captured.add(value);
  return captured;
}

/** The node that alone reads `value`, when nobody else can see it: not a graph output, not captured by a body. */
export function onlyConsumer(graph: Graph, value: Value, captured: ReadonlySet<Value>): Node | undefined {
  if (value.consumerCount !== 1 || captured.has(value) || graph.isOutput(value)) return undefined;
  return value.consumers[0];
}

/** The float32 data of a constant value. */
export function floatConstant(value: Value | null): (Tensor<'float32'> & Tensor) | undefined {
  const tensor = value?.constant;
  return tensor?.type === 'float32' ? (tensor as Tensor<'float32'>) : undefined;
}

/** Whether the node is an ai.onnx operator of that name. */
export function isOp(node: Node, ...ops: string[]): boolean;
export function isOp(node: Node | null | undefined, ...ops: string[]): node is Node;
export function isOp(node: Node | null | undefined, ...ops: string[]): boolean {
  return !!node && (node.domain === '' || node.domain === 'ai.onnx') && ops.includes(node.op);
}

/** Whether a node only asks for the shape of its input. */
export function isShapeReader(node: Node): boolean {
  return isOp(node, 'Shape', 'Size');
}

/** value = factor * result, through Mul and Div by constants. */
export function unscale(value: Value): { value: Value; factor: number; nodes: Node[] } {
  const nodes: Node[] = [];
  let factor = 1;
  for (let at = value; ; ) {
    const node = at.producer;
    const index = isOp(node, 'Mul') && floatConstant(node.input(0)) ? 0 : 1;
    const constant = isOp(node, 'Mul', 'Div') ? floatConstant(node.input(index)) : undefined;
    if (!node || constant?.size !== 1) return { value: at, factor, nodes };
    factor *= node.op === 'Mul' ? constant.data[0] : 1 / constant.data[0];
    nodes.push(node);
    at = node.requiredInput(1 - index);
  }
}

/**
 * Removes a node that hands its input 0 on unchanged. False, with nothing done, where the two values must both stay:
 * a body captures the output, or the output is public and the input has a name of its own to keep.
 */
export function bypass(graph: Graph, node: Node, captured: ReadonlySet<Value>): boolean {
  const from = node.outputs[0];
  const to = node.input(0);
  if (!from || !to || captured.has(from)) return false;
  if (graph.isOutput(from)) {
    const local = to.producer !== null && graph.nodes.has(to.producer);
    if (!local || graph.isOutput(to)) return false;
  }
  graph.replaceAllUses(from, to);
  graph.removeNode(node);
  return true;
}

/** Adds the Cast that makes `to`, whose type must be known, of `from`. */
export function addCast(graph: Graph, from: Value, to: Value): void {
  graph.addNode({
    name: graph.uniqueName(`${to.name}_Cast`),
    op: 'Cast',
    inputs: [from],
    outputs: [to],
    attributes: { to: { kind: 'int', value: onnxCodeOf(to.type!.dtype) } },
  });
}

/** A Cast of `value` to int32, as operators of com.microsoft take ids and masks. */
export function castToInt32(graph: Graph, value: Value): Value {
  const cast = graph.newValue(`${value.name}_int32`, { dtype: 'int32', shape: value.type?.shape });
  addCast(graph, value, cast);
  return cast;
}

/**
 * The Where of Where(IsNaN(p), 0, p) when that alone reads the result p of a Softmax: exporters write it for rows without
 * any key.
 */
export function guardOf(softmax: Node): { test: Node; guard: Node } | undefined {
  const value = softmax.output;
  const test = value.consumers.find((node) => isOp(node, 'IsNaN'));
  const guard = test && value.consumers.find((node) => isOp(node, 'Where') && node.input(0) === test.output);
  if (!test || !guard || guard.input(2) !== value || guard.input(1) === value) return undefined;
  const other = floatConstant(guard.input(1));
  return value.consumerCount === 2 && other?.size === 1 && other.data[0] === 0 ? { test, guard } : undefined;
}
