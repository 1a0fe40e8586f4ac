/** Runs a model by the TypeScript definitions of its operators alone: slow, and independent of passes and native code. */
import { graphFromProto } from '../../lib/graph/from-proto';
import type { Graph, Value } from '../../lib/graph/graph';
import { decodeModel } from '../../lib/onnx/read';
import { lookupOp } from '../../lib/ops/registry';
import type { Tensor } from '../../lib/tensor/tensor';

export function readGraph(model: Uint8Array): Graph {
  return graphFromProto(decodeModel(model));
}

export function runGraph(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  const values = new Map<Value, Tensor>();
  for (const value of graph.inputs) values.set(value, feeds[value.name]);
  for (const node of graph.topologicalOrder()) {
    const definition = lookupOp(node);
    if (!definition) throw new Error(`No operator ${node.domain}.${node.op}.`);
    const inputs = node.inputs.map((value) => value && (value.constant ?? values.get(value)!));
    const outputs = definition.run(inputs, {
      node,
      opset: graph.opset(node.domain) || 1,
      outputCount: node.outputs.length,
      runSubgraph: () => {
        throw new Error('No test here has subgraphs.');
      },
    });
    for (const [i, value] of node.outputs.entries()) if (value) values.set(value, outputs[i]);
  }
  return Object.fromEntries(graph.outputs.map((value) => [value.name, value.constant ?? values.get(value)!]));
}
