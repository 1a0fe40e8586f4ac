/** Removes nodes that change nothing: exporters leave many behind, and each would hide a pattern from later passes. */
import { type Graph, isConcrete, type Node, subgraphsOf, type Value } from '../graph/graph';
import { toDoubles } from '../ops/families/values';
import { bypass, capturedValues, isOp, onlyConsumer } from './matching';

/** Removes Identity, inference-time Dropout, and Cast, Transpose and Reshape that do nothing; merges Reshape chains. */
export function eliminateNoops(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const node of graph.topologicalOrder()) {
    for (const body of subgraphsOf(node)) changed = eliminateNoops(body) || changed;
    if (isOp(node, 'Reshape')) changed = skipInnerReshape(graph, node, captured) || changed;
    if (doesNothing(node)) changed = bypass(graph, node, captured) || changed;
  }
  return changed;
}

function doesNothing(node: Node): boolean {
  if (isOp(node, 'Identity')) return true;
  if (isOp(node, 'Dropout')) return isInferenceDropout(node);
  if (isOp(node, 'Cast')) {
    const from = node.input(0)?.type?.dtype;
    return from !== undefined && from === node.outputs[0]?.type?.dtype;
  }
  if (isOp(node, 'Transpose')) return node.attributes.ints('perm')?.every((axis, i) => axis === i) ?? false;
  if (isOp(node, 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze', 'Expand')) {
    const from = node.input(0)?.type?.shape;
    const to = node.outputs[0]?.type?.shape;
    return isConcrete(from) && isConcrete(to) && from.length === to.length && from.every((dim, i) => dim === to[i]);
  }
  return false;
}

function isInferenceDropout(node: Node): boolean {
  const mask = node.outputs[1];
  if (mask && (mask.consumerCount > 0 || !mask.producer)) return false;
  const training = node.input(2);
  return !training || (training.constant !== undefined && toDoubles(training.constant)[0] === 0);
}

/** Reshape(Reshape(x)) -> Reshape(x), unless the outer one copies a dimension of its input (a 0 in its shape). */
function skipInnerReshape(graph: Graph, node: Node, captured: ReadonlySet<Value>): boolean {
  const inner = node.input(0)?.producer;
  const shape = node.input(1)?.constant;
  if (!isOp(inner, 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze') || !graph.nodes.has(inner) || !shape) return false;
  if (onlyConsumer(graph, inner.output, captured) !== node) return false;
  if (toDoubles(shape).includes(0)) return false;
  node.setInput(0, inner.requiredInput(0));
  graph.removeNode(inner);
  return true;
}
