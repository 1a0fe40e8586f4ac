/**
 * Calibration on onnxruntime-node, an optional peer dependency that is loaded on first use. Its run() computes on the thread
 * that calls it, so it lives on a thread of its own here, and the event loop stays free.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type * as Ort from 'onnxruntime-node';
import { Q8Error } from '../../errors';
import { graphToProto } from '../../graph/to-proto';
import { modelSize, writeModel, writeModelFile } from '../../onnx/write';
import type { Tensor } from '../../tensor/tensor';
import type { EngineResult, OpenEngine } from './engine';

/** Whether onnxruntime-node is installed and loads. */
export async function ortIsAvailable(): Promise<boolean> {
  return (await loadOrt()) !== undefined;
}

/** onnxruntime-node, when it is installed and loads. */
export async function loadOrt(): Promise<typeof Ort | undefined> {
  try {
    return await import('onnxruntime-node');
  } catch {
    return undefined;
  }
}

/** Larger models go to the engine through a file, tensor by tensor, instead of a second copy in memory. */
const MAX_MODEL_IN_MEMORY = 2 ** 28;

export const openOrt: OpenEngine = async (graph, { threads }) => {
  // Loaded here first: a library that only threads have loaded goes when they end, under the feet of its own threads.
  if (!(await loadOrt())) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', 'The engine "ort" needs onnxruntime-node, which cannot be loaded.', {
      hint: 'run "npm install onnxruntime-node", or use engine: "q8".',
    });
  }
  const proto = graphToProto(graph);
  const folder = modelSize(proto) > MAX_MODEL_IN_MEMORY ? await mkdtemp(join(tmpdir(), 'q8-calibration-')) : undefined;
  const thread = OrtThread.borrow();
  const session = thread.newSession();
  let outputNames: readonly string[];
  try {
    if (folder !== undefined) await writeModelFile(proto, join(folder, 'float.onnx'), { externalData: true });
    const model = folder === undefined ? writeModel(proto) : join(folder, 'float.onnx');
    ({ outputNames } = (await thread.call('open', { session, model, options: sessionOptions(threads) })) as Opened);
  } catch (error) {
    thread.giveBack();
    throw error;
  } finally {
    // Once it is open, a session needs its files no more.
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
  let isOpen = true;
  return {
    async run(feed) {
      const message: Record<string, Pick<Tensor, 'type' | 'data' | 'dims'>> = {};
      for (const [name, { type, data, dims }] of Object.entries<Tensor>(feed)) {
        // Messages copy whole buffers, so a part of one is taken out first.
        const isPart = !Array.isArray(data) && data.byteLength < data.buffer.byteLength;
        message[name] = { type, data: isPart ? data.slice() : data, dims };
      }
      const { results, numbers } = (await thread.call('run', { session, feed: message })) as Results;
      let at = 0;
      const unpacked = results.map((result) => result ?? { data: numbers.subarray(at, ++at), dims: [] });
      return Object.fromEntries(outputNames.map((name, i) => [name, unpacked[i]]));
    },
    async release() {
      if (!isOpen) return;
      isOpen = false;
      await thread.call('close', { session }).finally(() => thread.giveBack());
    },
  };
};

function sessionOptions(threads: number): Ort.InferenceSession.SessionOptions {
  return {
    executionProviders: ['cpu'],
    // Fused and re-laid-out convolutions differ in last bits; unoptimized, ranges are those of ONNX Runtime's own tool.
    graphOptimizationLevel: 'disabled',
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
  };
}

/** What ort-thread.js answers to 'open' and to 'run': null stands for the next one of `numbers`. */
interface Opened {
  outputNames: readonly string[];
}
interface Results {
  results: readonly (EngineResult | null)[];
  numbers: Float32Array;
}

interface PendingCall {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

type Reply = { call: number } & ({ result: unknown } | { failure: string });

/** How long the thread stays for the next session, in milliseconds: starting one takes as long as a small model's run. */
const IDLE_MS = 1000;

/** The one thread of the process that runs onnxruntime. It keeps the process alive only while it has something to do. */
class OrtThread {
  static #shared: OrtThread | undefined;
  readonly #worker: Worker;
  readonly #pending = new Map<number, PendingCall>();
  #calls = 0;
  #sessions = 0;
  #open = 0;
  #idle: NodeJS.Timeout | undefined;

  static borrow(): OrtThread {
    OrtThread.#shared ??= new OrtThread();
    const thread = OrtThread.#shared;
    clearTimeout(thread.#idle);
    thread.#open++;
    return thread;
  }

  private constructor() {
    this.#worker = new Worker(join(__dirname, 'ort-thread.js'), {
      workerData: { onnxruntime: require.resolve('onnxruntime-node') },
      // Loaders of the process are of no use to it.
      execArgv: [],
    });
    this.#worker.unref();
    this.#worker.on('message', (reply: Reply) => {
      const { resolve, reject } = this.#pending.get(reply.call)!;
      this.#pending.delete(reply.call);
      if (this.#pending.size === 0) this.#worker.unref();
      if ('failure' in reply) reject(new Error(reply.failure));
      else resolve(reply.result);
    });
    this.#worker.on('error', (error) => this.#end(error));
    this.#worker.on('exit', () => this.#end(new Error('The thread of onnxruntime has ended.')));
  }

  newSession(): number {
    return this.#sessions++;
  }

  call(verb: 'open' | 'run' | 'close', message: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = this.#calls++;
      this.#pending.set(call, { resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage({ call, verb, ...message });
    });
  }

  giveBack(): void {
    if (--this.#open > 0) return;
    this.#idle = setTimeout(() => {
      if (OrtThread.#shared === this) OrtThread.#shared = undefined;
      void this.#worker.terminate();
    }, IDLE_MS).unref();
  }

  #end(error: Error): void {
    if (OrtThread.#shared === this) OrtThread.#shared = undefined;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
