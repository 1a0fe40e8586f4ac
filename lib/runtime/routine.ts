/**
 * A graph in the form that plans are made from: execution order and lifetimes of its values. The main graph is one
 * routine; so is the body of every control-flow node, with the outer values that it reads as additional inputs.
 */
import { type Graph, type Node, subgraphsOf, type Value } from '../graph/graph';

export interface Routine {
  readonly graph: Graph;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly order: readonly Node[];
  /** Everything that a node reads: its inputs, and what its bodies take from around them. */
  reads(node: Node): readonly Value[];
  /** Position in `order` of the last node that reads the value; `order.length` for outputs, -1 when nobody does. */
  lastUse(value: Value): number;
}

/** Linear in the size of the graph. `outer` are values of enclosing graphs that the graph reads. */
export function makeRoutine(graph: Graph, outer: Iterable<Value> = []): Routine {
  const order = graph.topologicalOrder();
  const reads = new Map<Node, Value[]>();
  const lastUse = new Map<Value, number>();
  order.forEach((node, at) => {
    const values = new Set(node.inputs.filter((value) => value !== null));
    if (subgraphsOf(node).length > 0) for (const value of graph.capturedBy(node)) values.add(value);
    for (const value of values) lastUse.set(value, at);
    reads.set(node, [...values]);
  });
  for (const value of graph.outputs) lastUse.set(value, order.length);
  return {
    graph,
    inputs: [...graph.inputs, ...outer],
    outputs: graph.outputs,
    order,
    reads: (node) => reads.get(node)!,
    lastUse: (value) => lastUse.get(value) ?? -1,
  };
}
