/** Runs graphs by the run() of their operators alone, one node after the other: the slow road that tests trust. */
import assert from 'node:assert/strict';
import { graphFromProto } from '../../lib/graph/from-proto';
import { Attributes, type AttributeInit } from '../../lib/graph/attributes';
import { Graph, type Node, type Value, type ValueType } from '../../lib/graph/graph';
import { decodeModel } from '../../lib/onnx/read';
import { lookupOp } from '../../lib/ops/registry';
import { Tensor } from '../../lib/tensor/tensor';

/** Outputs of a graph for inputs in the order of graph.inputs. `outer` resolves captured values of enclosing graphs. */
export function evaluate(
  graph: Graph,
  inputs: readonly (Tensor | null)[],
  outer?: ReadonlyMap<Value, Tensor>,
): Tensor[] {
  const values = new Map<Value, Tensor>(outer);
  graph.inputs.forEach((value, i) => {
    if (inputs[i]) values.set(value, inputs[i]);
  });
  const get = (value: Value): Tensor => {
    const tensor = value.constant ?? values.get(value);
    assert.ok(tensor, `no data for ${value.name}`);
    return tensor;
  };
  for (const node of graph.topologicalOrder()) {
    const results = lookupOp(node)!.run(
      node.inputs.map((value) => (value ? get(value) : null)),
      {
        node,
        opset: graph.opset(node.domain),
        outputCount: node.outputs.length,
        runSubgraph: (body, bodyInputs) => evaluate(body, bodyInputs, values),
      },
    );
    node.outputs.forEach((value, i) => {
      if (value) values.set(value, results[i]);
    });
  }
  return graph.outputs.map(get);
}

/** The graph in the bytes of a model. */
export function graphOf(bytes: Uint8Array): Graph {
  return graphFromProto(decodeModel(bytes));
}

/** A graph of one node over inputs of these types (null = left out; a Tensor becomes a constant). */
export function singleNode(
  op: string,
  inputs: readonly (ValueType | Tensor | null)[],
  options: { attributes?: AttributeInit; domain?: string; opset?: number; outputs?: number } = {},
): { graph: Graph; node: Node } {
  const { attributes = {}, domain = '', opset = domain === '' ? 17 : 1, outputs = 1 } = options;
  const graph = new Graph('test', { opsets: new Map([[domain, opset]]) });
  const values = inputs.map((input, i) => {
    if (!input) return null;
    if (input instanceof Tensor) return graph.newConstant(`c${i}`, input);
    const value = graph.newValue(`x${i}`, input);
    graph.inputs.push(value);
    return value;
  });
  const node = graph.addNode({
    name: `the_${op}`,
    op,
    domain,
    inputs: values,
    outputs: Array.from({ length: outputs }, (_, i) => graph.newValue(`y${i}`)),
    attributes: Attributes.of(`the_${op}`, attributes),
  });
  for (const value of node.outputs) graph.outputs.push(value!);
  return { graph, node };
}

/** The outputs of one node on constant inputs. */
export function runNode(
  op: string,
  inputs: readonly (Tensor | null)[],
  options: { attributes?: AttributeInit; domain?: string; opset?: number; outputs?: number } = {},
): Tensor[] {
  return evaluate(singleNode(op, inputs, options).graph, []);
}
