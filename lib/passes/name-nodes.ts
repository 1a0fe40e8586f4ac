/**
 * Node names are what reports, errors and the quantizer's options refer to: every node gets one, and no two the same.
 */
import { type Graph, subgraphsOf } from '../graph/graph';

/** Gives nameless nodes a name from their operator and renames all but the first of those that share one. */
export function nameNodes(graph: Graph, taken: Set<string> = new Set()): void {
  for (const node of graph.nodes) {
    if (node.name === '') node.name = graph.uniqueName(node.op);
    while (taken.has(node.name)) node.name = graph.uniqueName(node.name);
    taken.add(node.name);
    for (const body of subgraphsOf(node)) nameNodes(body, taken);
  }
}
