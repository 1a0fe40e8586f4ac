/** Runs models by everything that can: onnxruntime-node, sessions of q8, and the TypeScript definitions of operators. */
import * as ort from 'onnxruntime-node';
import type { Graph } from '../../lib/graph/graph';
import { InferenceSession } from '../../lib/runtime/session';
import type { Tensor } from '../../lib/tensor/tensor';
import { readGraph, runGraph } from './run-graph';

/** Exact u8s8 products on CPUs without VNNI too: onnxruntime saturates pairs there by default. */
export const EXACT = { extra: { session: { x64quantprecision: '1' } } };

export type Feed = Readonly<Record<string, Tensor>>;

/** The first output, by onnxruntime-node with all its optimizations. */
export async function runOrt(model: Uint8Array, feed: Feed, options = {}): Promise<Float32Array> {
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3, ...options });
  const feeds = Object.entries(feed).map(([name, { type, data, dims }]) => [
    name,
    new ort.Tensor(type as 'float32', data as Float32Array, dims),
  ]);
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  return results[session.outputNames[0]].data as Float32Array;
}

/** The first output, by the definitions of the operators. */
export function runOwn(model: Uint8Array, feed: Feed): Float32Array {
  return Object.values(runGraph(readGraph(model), feed))[0].data as Float32Array;
}

/** The first output, by a session of q8. */
export async function runSession(model: Uint8Array, feed: Feed): Promise<Float32Array> {
  const session = await InferenceSession.create(model);
  const results = await session.run(feed);
  await session.release();
  return Object.values(results)[0].data as Float32Array;
}

export function opCounts(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op } of graph.nodes) counts[op] = (counts[op] ?? 0) + 1;
  return counts;
}
