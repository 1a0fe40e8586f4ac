/** Transpose(Transpose(x)): one Transpose, or none when the second undoes the first. */
import type { Graph, Node } from '../graph/graph';
import { bypass, capturedValues, isOp } from './matching';

/** Merges chains of Transpose and removes those that do nothing. Inner ones with other consumers stay for them. */
export function cancelTransposes(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const node of graph.topologicalOrder()) {
    if (!isOp(node, 'Transpose')) continue;
    const inner = node.input(0)?.producer;
    const outerPerm = permOf(node);
    if (isOp(inner, 'Transpose') && graph.nodes.has(inner)) {
      const innerPerm = permOf(inner);
      if (!innerPerm || !outerPerm || innerPerm.length !== outerPerm.length) continue;
      node.attributes.set('perm', { kind: 'ints', value: outerPerm.map((axis) => innerPerm[axis]) });
      node.setInput(0, inner.requiredInput(0));
      if (inner.output.consumerCount === 0 && !captured.has(inner.output) && !graph.isOutput(inner.output)) {
        graph.removeNode(inner);
      }
      changed = true;
    }
    if (permOf(node)?.every((axis, i) => axis === i)) changed = bypass(graph, node, captured) || changed;
  }
  return changed;
}

function permOf(node: Node): number[] | undefined {
  const perm = node.attributes.ints('perm');
  if (perm) return perm;
  const rank = node.input(0)?.type?.shape?.length;
  return rank === undefined ? undefined : Array.from({ length: rank }, (_, i) => rank - 1 - i);
}
