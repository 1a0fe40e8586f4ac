/**
 * Bodies of control flow (If, Loop) as graphs that can be edited on their own. A body may read values of the graphs
 * around it; whoever rewrites it must not take their producers for its own nodes, so they are inputs meanwhile.
 */
import { type Graph, type Node, subgraphsOf, Value } from './graph';

/** The graph and all bodies inside it, outer ones first. */
export function* graphsOf(graph: Graph): Generator<Graph, void, void> {
  yield graph;
  for (const node of graph.bodyOwners) for (const body of subgraphsOf(node)) yield* graphsOf(body);
}

/** The nodes of {@link graphsOf}. */
export function* nodesOf(graph: Graph): Generator<Node, void, void> {
  for (const each of graphsOf(graph)) yield* each.nodes;
}

/** Calls `edit` with the graph, then with every body of what it is now, {@link isolated}. Linear, times the depth. */
export function inEveryGraph(graph: Graph, edit: (graph: Graph) => void): void {
  edit(graph);
  inEveryBody(graph, edit);
}

/** {@link inEveryGraph} without the graph itself. */
export function inEveryBody(graph: Graph, edit: (body: Graph) => void): void {
  for (const node of [...graph.bodyOwners]) {
    for (const body of subgraphsOf(node)) isolated(body, () => inEveryGraph(body, edit));
  }
}

/**
 * Calls `edit` while the body reads nothing from around it: values of other graphs are additional inputs of the same name
 * and type, and constants that other graphs use have copies (of the value, not of the tensor). Values of other graphs do not
 * list the body's nodes as consumers meanwhile.
 */
export function isolated(body: Graph, edit: () => void): void {
  const inside = [...graphsOf(body)];
  const nodes = new Set(nodesOf(body));
  const own = new Set<Value>();
  for (const graph of inside) for (const value of graph.inputs) own.add(value);
  for (const node of nodes) for (const value of node.outputs) if (value) own.add(value);

  const standIns = new Map<Value, Value>();
  const standInFor = (value: Value): Value => {
    const isOwn = value.constant ? value.consumers.every((node) => nodes.has(node)) : own.has(value);
    if (isOwn) return value;
    const standIn = standIns.get(value) ?? new Value(value.name, value.type, value.constant);
    standIns.set(value, standIn);
    return standIn;
  };
  for (const node of nodes) {
    for (const [i, value] of node.inputs.entries()) {
      const standIn = value && standInFor(value);
      if (standIn !== value) node.setInput(i, standIn);
    }
  }
  for (const { outputs } of inside) for (const [i, value] of outputs.entries()) outputs[i] = standInFor(value);
  const inputCount = body.inputs.length;
  for (const standIn of standIns.values()) if (!standIn.constant) body.inputs.push(standIn);
  try {
    edit();
  } finally {
    body.inputs.length = inputCount;
    const originals = new Map([...standIns].map(([value, standIn]) => [standIn, value]));
    for (const [standIn, value] of originals) {
      for (const node of standIn.consumers) {
        for (const [i, input] of node.inputs.entries()) if (input === standIn) node.setInput(i, value);
      }
    }
    for (const { outputs } of graphsOf(body)) {
      for (const [i, value] of outputs.entries()) outputs[i] = originals.get(value) ?? value;
    }
  }
}

/**
 * Moves nodes out of bodies as long as they read nothing that is made there, so that a loop computes them once; nodes that
 * then read the same in the same place become one. For nodes without attributes. Linear, times the depth.
 */
export function moveOut(graph: Graph, isMovable: (node: Node) => boolean): void {
  for (const owner of [...graph.nodes]) {
    for (const body of subgraphsOf(owner)) {
      moveOut(body, isMovable);
      const inputs = new Set(body.inputs);
      const isOuter = (value: Value | null): boolean =>
        !value || !(inputs.has(value) || (value.producer && body.nodes.has(value.producer)));
      for (const node of [...body.nodes]) {
        if (!isMovable(node) || !node.inputs.every(isOuter)) continue;
        body.removeNode(node);
        const twin = node.input(0)?.consumers.find((other) => graph.nodes.has(other) && isTwin(node, other));
        const { name, op, domain, inputs: read, outputs, attributes } = node;
        if (!twin) graph.addNode({ name, op, domain, inputs: read, outputs, attributes });
        else for (const [i, value] of outputs.entries()) if (value) body.replaceAllUses(value, twin.outputs[i]!);
      }
    }
  }
}

function isTwin(a: Node, b: Node): boolean {
  const isSame = (value: Value | null, i: number): boolean => value === b.input(i);
  return a.op === b.op && a.domain === b.domain && a.inputs.length === b.inputs.length && a.inputs.every(isSame);
}
