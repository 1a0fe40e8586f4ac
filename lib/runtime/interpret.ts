/**
 * Executes a graph node by node in plain TypeScript: slow, simple, and the judge of everything that is fast. Needs no
 * addon.
 */
import { expected, Q8Error } from '../errors';
import type { Graph, Node, Value } from '../graph/graph';
import { lookupOp } from '../ops/registry';
import type { Tensor } from '../tensor/tensor';

/**
 * Runs `graph` on tensors by input name and returns its outputs by name. @throws ERR_Q8_UNSUPPORTED_OP, with the node.
 */
export function interpret(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  const inputs = graph.inputs.map((value) => {
    const tensor = feeds[value.name];
    if (!tensor) throw expected('a tensor', `input ${JSON.stringify(value.name)}`, tensor);
    return tensor;
  });
  const outputs = interpretGraph(graph, inputs, new Map());
  return Object.fromEntries(graph.outputs.map((value, i) => [value.name, outputs[i]]));
}

/** The outputs of a graph or body. `outer` holds the values of enclosing graphs. */
function interpretGraph(graph: Graph, inputs: readonly Tensor[], outer: ReadonlyMap<Value, Tensor>): Tensor[] {
  const tensors = new Map(outer);
  graph.inputs.forEach((value, i) => {
    tensors.set(value, inputs[i]);
  });
  const read = (value: Value): Tensor => {
    const tensor = value.constant ?? tensors.get(value);
    if (!tensor) throw new Q8Error('ERR_Q8_BAD_MODEL', `Value "${value.name}" is read before it is made.`);
    return tensor;
  };
  for (const node of graph.topologicalOrder()) {
    const results = interpretNode(
      graph,
      node,
      node.inputs.map((value) => value && read(value)),
      tensors,
    );
    node.outputs.forEach((value, i) => {
      if (value && results[i]) tensors.set(value, results[i]);
    });
  }
  return graph.outputs.map(read);
}

function interpretNode(
  graph: Graph,
  node: Node,
  inputs: (Tensor | null)[],
  tensors: ReadonlyMap<Value, Tensor>,
): Tensor[] {
  const definition = lookupOp(node);
  if (!definition) {
    throw new Q8Error('ERR_Q8_UNSUPPORTED_OP', `Operator ${node.op} (node "${node.name}") is not supported.`, {
      node: node.name,
    });
  }
  return definition.run(inputs, {
    node,
    opset: graph.opset(node.domain),
    outputCount: node.outputs.length,
    runSubgraph: (body, bodyInputs) => interpretGraph(body, bodyInputs, tensors),
  });
}
