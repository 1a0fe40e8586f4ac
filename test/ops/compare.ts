/** Judges one node: run() and the native road of a session against onnxruntime-node. */
import assert from 'node:assert/strict';
import * as ort from 'onnxruntime-node';
import type { AttributeInit } from '../../lib/graph/attributes';
import type { Graph } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import { lookupOp } from '../../lib/ops/registry';
import { InferenceSession } from '../../lib/runtime/session';
import type { Tensor } from '../../lib/tensor/tensor';
import { evaluate, singleNode } from './evaluate';

export interface Comparison {
  op: string;
  domain?: string;
  opset?: number;
  attributes?: AttributeInit;
  /** The first `fed` tensors (default 1) are graph inputs, the rest constants. */
  inputs: (Tensor | null)[];
  fed?: number[];
  outputs?: number;
  /** Largest difference to onnxruntime: codes for integers, absolute for floats. Default: none. */
  within?: number;
  /** The same between the native road and run(), for floats. Default: that of the native transcendental functions. */
  nativeWithin?: number;
  /** The first outputs to compare. Default: all. */
  compared?: number;
  /** How the node must run in a session. Default: either way. */
  road?: 'native' | 'typescript';
}

function build(
  { op, domain, opset, attributes, inputs, outputs }: Comparison,
  fed: number[],
): { graph: Graph; feeds: Tensor[] } {
  const { graph } = singleNode(
    op,
    inputs.map((t, i) => (t && fed.includes(i) ? { dtype: t.type, shape: t.dims } : t)),
    { domain, opset, attributes, outputs },
  );
  graph.opsets.set('', graph.opsets.get('') ?? 17);
  inferShapes(graph, lookupOp);
  return { graph, feeds: fed.map((i) => inputs[i]!) };
}

async function runOnnxruntime(graph: Graph, feeds: Tensor[]): Promise<ort.Tensor[]> {
  const session = await ort.InferenceSession.create(writeModel(graphToProto(graph)), {
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 4,
  });
  const named = Object.fromEntries(
    graph.inputs.map((value, i) => [
      value.name,
      new ort.Tensor(feeds[i].type as 'float32', feeds[i].data as Float32Array, feeds[i].dims),
    ]),
  );
  const results = await session.run(named);
  return graph.outputs.map((value) => results[value.name] as ort.Tensor);
}

function assertWithin(
  actual: { type: string; dims: readonly number[]; data: unknown },
  expected: typeof actual,
  bound: number,
  who: string,
): void {
  assert.equal(actual.type, expected.type, who);
  assert.deepEqual([...actual.dims], [...expected.dims], who);
  const [a, b] = [actual.data as Float32Array, expected.data as Float32Array];
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs(Number(a[i]) - Number(b[i]));
    assert.ok(difference <= bound || Object.is(a[i], b[i]), `${who}: element ${i} is ${a[i]}, expected ${b[i]}`);
  }
}

/** run(), the native road and onnxruntime on the same node. */
export async function compare(comparison: Comparison): Promise<void> {
  const fed = comparison.fed ?? [0];
  const { graph, feeds } = build(comparison, fed);
  const reference = evaluate(graph, feeds);
  const theirs = await runOnnxruntime(graph, feeds);
  const session = InferenceSession.fromGraph(graph.clone());
  const native = session.runSync(Object.fromEntries(graph.inputs.map((value, i) => [value.name, feeds[i]])));
  if (comparison.road) assert.equal(session.nodes.at(-1)?.road, comparison.road, comparison.op);
  graph.outputs.slice(0, comparison.compared).forEach((value, i) => {
    assertWithin(reference[i], theirs[i] as never, comparison.within ?? 0, 'run() against onnxruntime');
    // Native floats have their own transcendental functions; everything on codes is the same by construction.
    const bound =
      reference[i].type === 'float32' ? (comparison.nativeWithin ?? 2e-6) : comparison.op === 'QLinearSoftmax' ? 1 : 0;
    assertWithin(native[value.name] as never, reference[i], bound, 'native against run()');
  });
}
