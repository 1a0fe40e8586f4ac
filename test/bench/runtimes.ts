/** q8 and onnxruntime-node behind one interface, set up for a fair comparison. */
import type { Tensor } from '../../lib';

export type RuntimeName = 'q8' | 'onnxruntime';

export interface Runner {
  run(feed: Readonly<Record<string, Tensor>>): Promise<unknown>;
  release(): Promise<void>;
}

/** Loads the runtime itself, so that what follows is the model's cost. */
export async function loadRuntime(name: RuntimeName): Promise<(model: string, threads: number) => Promise<Runner>> {
  if (name === 'q8') {
    // As users load it: built. Compiling the sources on the way would count as time to create a session.
    const { InferenceSession, cpuInfo } = require('../../dist/index.js') as typeof import('../../lib');
    cpuInfo();
    return async (model, threads) => InferenceSession.create(model, { threads });
  }
  const ort = await import('onnxruntime-node');
  return async (model, threads) => {
    const session = await ort.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      logSeverityLevel: 3,
      // Its idle threads would otherwise spin on the cores while q8 is measured.
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    });
    return {
      run: (feed) =>
        session.run(
          Object.fromEntries(
            Object.entries(feed).map(([key, { type, data, dims }]) => [
              key,
              new ort.Tensor(type as 'float32', data as Float32Array, dims),
            ]),
          ),
        ),
      release: () => session.release(),
    };
  };
}
