/**
 * Calibration on onnxruntime-node, an optional peer dependency that is loaded on first use. Its session runs on the
 * calling thread: the event loop stands still during each sample.
 */
import type * as Ort from 'onnxruntime-node';
import { Q8Error } from '../../errors';
import type { Tensor } from '../../tensor/tensor';
import type { OpenEngine } from './engine';

/** Whether onnxruntime-node is installed and loads. */
export async function ortIsAvailable(): Promise<boolean> {
  return (await load()) !== undefined;
}

export const openOrt: OpenEngine = async (model, { threads }) => {
  const ort = await load();
  if (!ort) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', 'The engine "ort" needs onnxruntime-node, which cannot be loaded.', {
      hint: 'run "npm install onnxruntime-node", or use engine: "q8".',
    });
  }
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ['cpu'],
    // Fused and re-laid-out convolutions differ in last bits; unoptimized, ranges are those of ONNX Runtime's own tool.
    graphOptimizationLevel: 'disabled',
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
  });
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

async function load(): Promise<typeof Ort | undefined> {
  try {
    return await import('onnxruntime-node');
  } catch {
    return undefined;
  }
}
