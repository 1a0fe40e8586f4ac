/**
 * Calibration on onnxruntime-node, an optional peer dependency that is loaded on first use. Its session runs on the
 * calling thread: the event loop stands still during each sample.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { Q8Error } from '../../errors';
import { graphToProto } from '../../graph/to-proto';
import { modelSize, writeModel, writeModelFile } from '../../onnx/write';
import type { Tensor } from '../../tensor/tensor';
import type { OpenEngine } from './engine';

/** Whether onnxruntime-node is installed and loads. */
export async function ortIsAvailable(): Promise<boolean> {
  return (await loadOrt()) !== undefined;
}

/** Larger models go to the engine through a file, tensor by tensor, instead of a second copy in memory. */
const MAX_MODEL_IN_MEMORY = 2 ** 28;

export const openOrt: OpenEngine = async (graph, { threads }) => {
  const ort = await loadOrt();
  if (!ort) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', 'The engine "ort" needs onnxruntime-node, which cannot be loaded.', {
      hint: 'run "npm install onnxruntime-node", or use engine: "q8".',
    });
  }
  const proto = graphToProto(graph);
  const folder = modelSize(proto) > MAX_MODEL_IN_MEMORY ? await mkdtemp(join(tmpdir(), 'q8-calibration-')) : undefined;
  let session: Ort.InferenceSession;
  try {
    if (folder !== undefined) await writeModelFile(proto, join(folder, 'float.onnx'), { externalData: true });
    session = await open(ort, folder === undefined ? writeModel(proto) : join(folder, 'float.onnx'), threads);
  } finally {
    // Once it is open, a session needs its files no more.
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
  return {
    run(feed) {
      const feeds: Record<string, Ort.Tensor> = {};
      for (const [name, { type, data, dims }] of Object.entries<Tensor>(feed)) {
        feeds[name] = new ort.Tensor(type as 'float32', data as Float32Array, dims);
      }
      return session.run(feeds) as Promise<Record<string, { data: unknown }>>;
    },
    release: () => session.release(),
  };
};

function open(ort: typeof Ort, model: Uint8Array | string, threads: number): Promise<Ort.InferenceSession> {
  const options: Ort.InferenceSession.SessionOptions = {
    executionProviders: ['cpu'],
    // Fused and re-laid-out convolutions differ in last bits; unoptimized, ranges are those of ONNX Runtime's own tool.
    graphOptimizationLevel: 'disabled',
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
  };
  return typeof model === 'string'
    ? ort.InferenceSession.create(model, options)
    : ort.InferenceSession.create(model, options);
}

/** onnxruntime-node, when it is installed and loads. */
export async function loadOrt(): Promise<typeof Ort | undefined> {
  try {
    return await import('onnxruntime-node');
  } catch {
    return undefined;
  }
}
