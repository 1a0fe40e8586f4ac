/** Removes what no output needs. */
import { type Graph, type Node, subgraphsOf, type Value } from '../graph/graph';

/** Removes every node from which no graph output can be reached, bodies included. Linear. */
export function removeDeadNodes(graph: Graph): boolean {
  const alive = new Set<Node>();
  const stack: Node[] = [];
  const need = (value: Value | null): void => {
    const producer = value?.producer;
    if (!producer || !graph.nodes.has(producer) || alive.has(producer)) return;
    alive.add(producer);
    stack.push(producer);
  };
  for (const value of graph.outputs) need(value);
  for (let node = stack.pop(); node; node = stack.pop()) {
    const bodies = subgraphsOf(node);
    for (const body of bodies) removeDeadNodes(body);
    for (const value of node.inputs) need(value);
    if (bodies.length > 0) for (const value of graph.capturedBy(node)) need(value);
  }
  const dead = [...graph.nodes].filter((node) => !alive.has(node));
  for (const node of dead) graph.removeNode(node);
  return dead.length > 0;
}
