/**
 * InferenceSession: a model ready to run, with the shape of onnxruntime-node's class of that name. Loading parses,
 * lowers and, where the input shapes are known, compiles and packs; run() binds other shapes when it meets them, and
 * computes off the main thread.
 */
import { loadBinding } from '../binding/load';
import { expected, Q8Error } from '../errors';
import { type Graph, isConcrete, type Node, type ValueType } from '../graph/graph';
import { graphFromProto } from '../graph/from-proto';
import { readModel } from '../onnx/read';
import { lowerInSlices } from '../passes';
import type { DType } from '../tensor/dtype';
import { checkSupport } from './check-support';
import type { Road, Stage } from './compile';
import { drive, driveSync, Executor, ownsMemory } from './executor';
import {
  type Declared,
  directTargets,
  type Feeds,
  type Fetch,
  type Fetches,
  giveResults,
  nameOfDim,
  readFeeds,
  readFetches,
  smallestType,
  type TensorLike,
} from './feeds';
import { profileWalk, type ProfileRow } from './profile';
import { makeRoutine, type Routine } from './routine';
import {
  checkRunOptions,
  looksLikeRunOptions,
  type ResolvedOptions,
  resolveSessionOptions,
  type RunOptions,
  type SessionOptions,
} from './session-options';
import { WeightLease } from './shared-weights';
import { finish, finishInTurns, type Slices } from './slices';

/** An input or output as the model declares it. Symbolic sizes are names; unknown ones without a name are ''. */
export interface ValueMetadata {
  readonly name: string;
  readonly isTensor: true;
  readonly type: DType;
  readonly shape: readonly (number | string)[];
}

/** One node of the model as it runs: after constants were folded and operators fused. */
export interface NodeInfo {
  name: string;
  op: string;
  /** 'unknown' as long as no plan has been compiled that reaches the node. */
  road: Road | 'unknown';
  outputs: { name: string; type: DType | undefined; shape: readonly (number | string)[] | undefined }[];
}

type Results = Record<string, TensorLike>;

export class InferenceSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly ValueMetadata[];
  readonly outputMetadata: readonly ValueMetadata[];
  readonly #inputs: readonly Declared[];
  readonly #outputs: readonly Declared[];
  readonly #routine: Routine;
  readonly #executor: Executor;
  readonly #weights: WeightLease;
  readonly #options: ResolvedOptions;
  #running = 0;
  #released = false;
  #freed: { promise: Promise<void>; resolve: () => void } | null = null;

  /** `graph` is lowered. */
  private constructor(
    graph: Graph,
    inputs: readonly Declared[],
    outputs: readonly Declared[],
    options: ResolvedOptions,
  ) {
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.inputNames = this.#inputs.map(({ name }) => name);
    this.outputNames = this.#outputs.map(({ name }) => name);
    this.inputMetadata = this.#inputs.map(metadataOf);
    this.outputMetadata = this.#outputs.map(metadataOf);
    this.#options = options;
    this.#weights = new WeightLease();
    this.#routine = makeRoutine(graph);
    this.#executor = new Executor(this.#routine, {
      weights: this.#weights,
      addon: loadBinding(),
      planCacheSize: options.planCacheSize,
    });
  }

  static *#load(proto: Parameters<typeof graphFromProto>[0], options: ResolvedOptions): Slices<InferenceSession> {
    const graph = graphFromProto(proto);
    yield;
    return yield* InferenceSession.#make(graph, options);
  }

  /** Makes a session of a graph, a pass or a node a slice. */
  static *#make(graph: Graph, options: ResolvedOptions): Slices<InferenceSession> {
    const declaredOutputs = graph.outputs.map((value) => ({ name: value.name, type: value.type }));
    const inputs = graph.inputs.map((value) => declared(value.name, value.type));
    yield* lowerInSlices(graph);
    checkSupport(graph);
    const outputs = graph.outputs.map((value, i) => {
      const { name, type } = declaredOutputs[i];
      return declared(name, type?.shape ? type : (value.type ?? type));
    });
    const session = new InferenceSession(graph, inputs, outputs, options);
    if (inputs.every(({ shape }) => isConcrete(shape))) yield* session.#executor.planInSlices(inputs.map(smallestType));
    return session;
  }

  /** Loads a model from a file, with its side files. */
  static create(path: string, options?: SessionOptions): Promise<InferenceSession>;
  /** Loads a model from memory, which is copied. */
  static create(bytes: ArrayBufferLike | Uint8Array, options?: SessionOptions): Promise<InferenceSession>;
  static create(
    buffer: ArrayBufferLike,
    byteOffset: number,
    byteLength?: number,
    options?: SessionOptions,
  ): Promise<InferenceSession>;
  static async create(
    model: string | ArrayBufferLike | Uint8Array,
    second: SessionOptions | number = {},
    third?: number,
    fourth: SessionOptions = {},
  ): Promise<InferenceSession> {
    const options = resolveSessionOptions(typeof second === 'number' ? fourth : second);
    const source =
      typeof model === 'string' ? model : copyOfModel(model, typeof second === 'number' ? second : 0, third);
    const { model: proto } = await readModel(source, options.read);
    return finishInTurns(InferenceSession.#load(proto, options));
  }

  /** A session of a graph made in memory; the graph is consumed. */
  static fromGraph(graph: Graph, options: SessionOptions = {}): InferenceSession {
    return finish(InferenceSession.#make(graph, resolveSessionOptions(options)));
  }

  /**
   * Runs the model. `fetches` are the names of the outputs that are wanted, or tensors to write them to; all outputs by
   * default. Any number of runs may be in flight. Feeds must not change until the promise settles.
   */
  run(feeds: Feeds, options?: RunOptions): Promise<Results>;
  run(feeds: Feeds, fetches: Fetches, options?: RunOptions): Promise<Results>;
  async run(feeds: Feeds, second?: Fetches | RunOptions, third?: RunOptions): Promise<Results> {
    const { fetches, options } = this.#arguments(second, third);
    options.signal?.throwIfAborted();
    return this.#whileRunning(async () => {
      const inputs = readFeeds(feeds, this.#inputs);
      const wanted = readFetches(fetches, this.#outputs);
      const walk = this.#executor.walk(inputs, directTargets(wanted, this.#routine.outputs, inputs));
      return this.#give(await drive(walk, this.#options.threads, options.signal), wanted);
    });
  }

  /** {@link run}, blocking the calling thread. */
  runSync(feeds: Feeds, options?: RunOptions): Results;
  runSync(feeds: Feeds, fetches: Fetches, options?: RunOptions): Results;
  runSync(feeds: Feeds, second?: Fetches | RunOptions, third?: RunOptions): Results {
    const { fetches, options } = this.#arguments(second, third);
    options.signal?.throwIfAborted();
    const inputs = readFeeds(feeds, this.#inputs);
    const wanted = readFetches(fetches, this.#outputs);
    const walk = this.#executor.walk(inputs, directTargets(wanted, this.#routine.outputs, inputs));
    return this.#give(driveSync(walk, this.#options.threads), wanted);
  }

  /** Runs once, blocking, and reports what each step has cost. */
  profile(feeds: Feeds): ProfileRow[] {
    this.#checkUsable();
    const inputs = readFeeds(feeds, this.#inputs);
    return profileWalk((observe) => this.#executor.walk(inputs, new Map(), observe), this.#options.threads);
  }

  /**
   * The nodes as they run, with the road each takes in the plan used last; before any run, in a plan where symbolic
   * sizes are 1, if the model allows that. Nodes of bodies follow the one that has them; their roads are known after a run.
   */
  get nodes(): NodeInfo[] {
    this.#checkUsable();
    const stage = this.#executor.latestPlan ?? this.#smallestPlan();
    return [...this.#executor.nodes(stage)].map(([node, its]) => nodeInfo(node, its));
  }

  /** Does nothing, as in onnxruntime-node; see {@link profile}. */
  startProfiling(): void {}

  /** Does nothing, as in onnxruntime-node; see {@link profile}. */
  endProfiling(): void {}

  /** Frees plans and weights when the runs in flight have ended. Idempotent; later runs reject with ERR_Q8_DISPOSED. */
  release(): Promise<void> {
    this.dispose();
    return this.#freed!.promise;
  }

  /** {@link release} without waiting. */
  dispose(): void {
    if (this.#released) return;
    this.#released = true;
    let resolve = (): void => {};
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    this.#freed = { promise, resolve };
    if (this.#running === 0) this.#free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  #arguments(
    second: Fetches | RunOptions | undefined,
    third: RunOptions | undefined,
  ): { fetches?: Fetches; options: RunOptions } {
    this.#checkUsable();
    const isOptions =
      third === undefined &&
      second !== null &&
      typeof second === 'object' &&
      looksLikeRunOptions(second, this.outputNames);
    const options = (isOptions ? (second as RunOptions) : third) ?? {};
    checkRunOptions(options);
    return { fetches: isOptions ? undefined : (second as Fetches | undefined), options };
  }

  #give(outputs: Parameters<typeof giveResults>[0], wanted: readonly Fetch[]): Results {
    return giveResults(outputs, wanted, ownsMemory);
  }

  async #whileRunning<T>(action: () => Promise<T>): Promise<T> {
    this.#running++;
    try {
      return await action();
    } finally {
      if (--this.#running === 0 && this.#released) this.#free();
    }
  }

  #free(): void {
    this.#executor.release();
    this.#weights.release();
    this.#freed!.resolve();
  }

  #checkUsable(): void {
    if (this.#released) throw new Q8Error('ERR_Q8_DISPOSED', 'The session is released.');
  }

  #smallestPlan(): Stage | undefined {
    try {
      return this.#executor.plan(this.#inputs.map(smallestType));
    } catch (error) {
      // The model needs other sizes; which ones only a run can tell.
      if (error instanceof Q8Error) return undefined;
      throw error;
    }
  }
}

function declared(name: string, type: ValueType | undefined): Declared {
  if (!type) throw new Q8Error('ERR_Q8_BAD_MODEL', `The type of "${name}" is not known.`);
  return { name, type: type.dtype, shape: type.shape };
}

function metadataOf({ name, type, shape }: Declared): ValueMetadata {
  return {
    name,
    isTensor: true,
    type,
    shape: (shape ?? []).map((dim) => (nameOfDim(dim) === '?' ? '' : dim)),
  };
}

function nodeInfo(node: Node, stage: Stage | undefined): NodeInfo {
  const outputs = node.outputs.filter((value) => value !== null);
  return {
    name: node.name,
    op: node.domain === '' ? node.op : `${node.domain}.${node.op}`,
    road: stage?.roads.get(node) ?? 'unknown',
    outputs: outputs.map((value) => {
      const type = stage?.typeOf(value) ?? value.type;
      return { name: value.name, type: type?.dtype, shape: type?.shape?.map(nameOfDim) };
    }),
  };
}

/** The bytes of a model, copied: constants refer to them as long as the session lives. */
function copyOfModel(model: unknown, byteOffset: number, byteLength?: number): Uint8Array {
  if (model instanceof Uint8Array) return new Uint8Array(model);
  if (!(model instanceof ArrayBuffer) && !(model instanceof SharedArrayBuffer)) {
    throw expected('a path, an ArrayBuffer or a Uint8Array', 'the model', model);
  }
  const length = byteLength ?? model.byteLength - byteOffset;
  for (const [name, value] of [
    ['byteOffset', byteOffset],
    ['byteLength', length],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 0 || byteOffset + length > model.byteLength) {
      throw expected(`a range inside the ${model.byteLength} bytes of the model`, name, value);
    }
  }
  return new Uint8Array(new Uint8Array(model, byteOffset, length));
}
