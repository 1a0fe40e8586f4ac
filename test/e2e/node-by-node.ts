/**
 * Judges a quantized model one node at a time: onnxruntime-node runs the whole model and gives out every tensor, then q8
 * runs each node alone on the inputs that onnxruntime had. So a difference belongs to one node and is not carried on.
 */
import * as ort from 'onnxruntime-node';
import { graphFromProto } from '../../lib/graph/from-proto';
import { Graph, type Node, Value } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { graphToProto } from '../../lib/graph/to-proto';
import { decodeModel } from '../../lib/onnx/read';
import { writeModel } from '../../lib/onnx/write';
import { lookupOp } from '../../lib/ops/registry';
import { InferenceSession } from '../../lib/runtime/session';
import type { DType } from '../../lib/tensor/dtype';
import { Tensor } from '../../lib/tensor/tensor';

/**
 * onnxruntime without its int16 saturation: on x86 CPUs without VNNI its U8S8 kernels saturate, and this option makes it
 * turn int8 weights into uint8, for which its kernels are exact. Not for int8 activations: there is no S8U8 QGemm.
 */
export const EXACT_ORT: ort.InferenceSession.SessionOptions = {
  logSeverityLevel: 3,
  extra: { session: { x64quantprecision: '1' } },
};

/** How q8 and onnxruntime differ over all nodes of one operator. */
export interface Difference {
  nodes: number;
  elements: number;
  /** Elements that are not the same. */
  differing: number;
  /** Largest difference: codes for integers, absolute for floats. */
  largest: number;
}

/** Differences by operator, for one feed. Activations must be uint8, see {@link EXACT_ORT}. */
export async function compareNodeByNode(
  model: Uint8Array,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Map<string, Difference>> {
  const graph = graphFromProto(decodeModel(model));
  const values = await allValues(graph, feeds);
  const differences = new Map<string, Difference>();
  for (const node of graph.topologicalOrder()) {
    const expected = values.get(node.output.name)!;
    const actual = runAlone(graph, node, values);
    const total = differences.get(node.op) ?? { nodes: 0, elements: 0, differing: 0, largest: 0 };
    differences.set(node.op, accumulate(total, actual, expected));
  }
  return differences;
}

/** The model with every result of a node among its outputs. */
export function withAllOutputs(graph: Graph): Graph {
  const copy = graph.clone();
  inferShapes(copy, lookupOp);
  const given = new Set(copy.outputs);
  for (const node of copy.topologicalOrder()) {
    for (const value of node.outputs) if (value && !given.has(value)) copy.outputs.push(value);
  }
  return copy;
}

/** Every tensor of a run in onnxruntime, by name. */
async function allValues(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Promise<Map<string, Tensor>> {
  const session = await ort.InferenceSession.create(writeModel(graphToProto(withAllOutputs(graph))), EXACT_ORT);
  const given = Object.entries(feeds).map(([name, { type, data, dims }]) => {
    return [name, new ort.Tensor(type as 'float32', data as Float32Array, dims)] as const;
  });
  const results = await session.run(Object.fromEntries(given));
  await session.release();
  const values = new Map(Object.entries(feeds));
  for (const [name, { type, data, dims }] of Object.entries(results)) {
    values.set(name, new Tensor(type as DType, data as Float32Array, dims));
  }
  return values;
}

/** One node on the given inputs, in a session of its own. */
function runAlone(graph: Graph, node: Node, values: ReadonlyMap<string, Tensor>): Tensor {
  const alone = new Graph('alone', { opsets: new Map(graph.opsets) });
  const feeds: Record<string, Tensor> = {};
  const made = new Map<Value, Value>();
  const inputs = node.inputs.map((value) => {
    if (value === null) return null;
    if (value.constant) return alone.newConstant(value.name, value.constant);
    const tensor = values.get(value.name)!;
    const input = made.get(value) ?? new Value(value.name, { dtype: tensor.type, shape: tensor.dims });
    if (!made.has(value)) {
      alone.reserve(value.name);
      alone.inputs.push(input);
      made.set(value, input);
    }
    feeds[value.name] = tensor;
    return input;
  });
  const { type, dims } = values.get(node.output.name)!;
  const output = new Value(node.output.name, { dtype: type, shape: dims });
  alone.addNode({
    name: node.name,
    op: node.op,
    domain: node.domain,
    attributes: node.attributes,
    inputs,
    outputs: [output],
  });
  alone.outputs.push(output);
  using session = InferenceSession.fromGraph(alone);
  return session.runSync(feeds)[output.name] as Tensor;
}

function accumulate(total: Difference, actual: Tensor, expected: Tensor): Difference {
  const [a, b] = [actual.data as Float32Array, expected.data as Float32Array];
  if (actual.type !== expected.type || a.length !== b.length) {
    return { ...total, nodes: total.nodes + 1, differing: Number.POSITIVE_INFINITY, largest: Number.POSITIVE_INFINITY };
  }
  let { differing, largest } = total;
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i])) continue;
    differing++;
    largest = Math.max(largest, Math.abs(Number(a[i]) - Number(b[i])));
  }
  return { nodes: total.nodes + 1, elements: total.elements + b.length, differing, largest };
}
