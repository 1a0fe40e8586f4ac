/**
 * Runs a routine: finds or makes the plan for the shapes at hand, and walks it. The walk is a generator that yields
 * every native call, so that one walk serves blocking and asynchronous runs; control flow recurses into executors of
 * the bodies.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Data, Program } from '../../binding';
import { toQ8Error } from '../binding/load';
import { Q8Error } from '../errors';
import { type Graph, type Node, subgraphsOf, type Value, type ValueType } from '../graph/graph';
import { lookupOp } from '../ops/registry';
import { allocate } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import {
  type CompileOptions,
  compileStage,
  type NativeStep,
  retireStage,
  type Stage,
  type StageStart,
} from './compile';
import { PlanCache } from './plan-cache';
import { makeRoutine, type Routine } from './routine';
import { finish, inTurns, type Slices, TURN_MS } from './slices';

/** A native call that whoever drives the walk has to make before resuming it. */
export interface NativeCall {
  program: Program;
  inputs: Data[];
  outputs: Data[];
  step: NativeStep;
}

/**
 * The walk of one run. It yields native calls, and null after work in TypeScript that has taken long enough for the
 * event loop to want a turn; it returns the outputs of the routine, in order.
 */
export type Walk = Generator<NativeCall | null, Tensor[], void>;

/** Told when a TypeScript node starts; what it returns is called when the node has ended. */
export type NodeObserver = (node: Node) => () => void;

/** Tensors that native steps have filled: nothing else refers to their memory. */
const fresh = new WeakSet<Tensor>();

/** Whether a result of a walk has its memory for itself; others may share it with an input or a constant. */
export function ownsMemory(tensor: Tensor): boolean {
  return fresh.has(tensor);
}

export class Executor {
  readonly #routine: Routine;
  readonly #options: CompileOptions;
  readonly #plans: PlanCache<Stage>;
  readonly #bodies = new Map<Graph, { executor: Executor; outer: readonly Value[] }>();

  constructor(routine: Routine, options: CompileOptions) {
    this.#routine = routine;
    this.#options = options;
    this.#plans = new PlanCache(options.planCacheSize, retireStage);
  }

  /** The first stage of the plan for these input types, in the order of the routine's inputs. Compiles it if needed. */
  plan(types: readonly ValueType[]): Stage {
    return finish(this.planInSlices(types));
  }

  /** {@link plan}, in slices. */
  planInSlices(types: readonly ValueType[]): Slices<Stage> {
    return this.#plans.get(keyOf(types), () => {
      const known = new Map(this.#routine.inputs.map((value, i) => [value, types[i]]));
      return compileStage(this.#routine, { start: 0, types: known, constants: new Map() }, this.#options);
    });
  }

  /** The plan that was used last. */
  get latestPlan(): Stage | undefined {
    return this.#plans.latest;
  }

  get planCount(): number {
    return this.#plans.size;
  }

  /** The nodes in execution order, those of bodies behind the node that has them, each with the plan it is in. */
  *nodes(stage: Stage | undefined): Generator<[node: Node, stage: Stage | undefined], void, void> {
    for (const node of this.#routine.order) {
      yield [node, stage];
      for (const graph of subgraphsOf(node)) {
        const { executor } = this.#body(node, graph);
        yield* executor.nodes(executor.latestPlan);
      }
    }
  }

  /**
   * Runs with `inputs` in the order of the routine's inputs. Outputs for which `targets` has a tensor are written there
   * when a native step makes them; the caller compares the result with the target.
   */
  *walk(inputs: readonly Tensor[], targets: ReadonlyMap<Value, Tensor>, observe?: NodeObserver): Walk {
    const tensors = new Map<Value, Tensor>(this.#routine.inputs.map((value, i) => [value, inputs[i]]));
    let stage = yield* turnsOf(this.planInSlices(inputs.map(typeOf)));
    for (;;) {
      stage.users++;
      try {
        yield* this.#walkStage(stage, tensors, targets, observe);
      } finally {
        if (--stage.users === 0 && stage.retired) retireStage(stage);
      }
      const { rest } = stage;
      if (!rest) return this.#routine.outputs.map((value) => read(value, stage, tensors));
      const types = rest.carried.map((value): ValueType => typeOf(tensors.get(value)!));
      const next = rest.plans.get(keyOf(types), () => {
        const from: StageStart = {
          start: rest.start,
          types: new Map(rest.carried.map((value, i) => [value, types[i]])),
          constants: rest.constants,
        };
        return compileStage(this.#routine, from, this.#options);
      });
      stage = yield* turnsOf(next);
    }
  }

  /** Frees all plans; runs in flight end first. */
  release(): void {
    this.#plans.clear();
    for (const { executor } of this.#bodies.values()) executor.release();
  }

  *#walkStage(
    stage: Stage,
    tensors: Map<Value, Tensor>,
    targets: ReadonlyMap<Value, Tensor>,
    observe?: NodeObserver,
  ): Generator<NativeCall | null, void, void> {
    let sinceTurn = 0;
    for (const step of stage.steps) {
      if (step.kind === 'native') {
        const inputs = step.inputs.map((value) => read(value, stage, tensors).data as Data);
        const results = step.outputs.map(({ value, dtype, dims }) => {
          const target = targets.get(value);
          const fits = target?.type === dtype && sameDims(target.dims, dims);
          return fits ? target : new Tensor(dtype, allocate(dtype, sizeOf(dims)), dims);
        });
        yield { program: step.program, inputs, outputs: results.map((tensor) => tensor.data as Data), step };
        results.forEach((tensor, i) => {
          fresh.add(tensor);
          tensors.set(step.outputs[i].value, tensor);
        });
      } else {
        const { node } = step;
        const started = performance.now();
        const ended = observe?.(node);
        const results =
          node.op === 'If' && node.domain === ''
            ? yield* this.#walkIf(node, stage, tensors)
            : this.#runNode(node, stage, tensors);
        node.outputs.forEach((value, i) => {
          if (!value) return;
          if (!results[i])
            throw new Q8Error('ERR_Q8_INTERNAL', `Node "${node.name}" (${node.op}) gave no output ${i}.`, {
              node: node.name,
            });
          checkPlanned(node, results[i], stage.typeOf(value));
          tensors.set(value, results[i]);
        });
        ended?.();
        sinceTurn += performance.now() - started;
        if (sinceTurn > TURN_MS) {
          sinceTurn = 0;
          yield null;
        }
      }
    }
  }

  #runNode(node: Node, stage: Stage, tensors: Map<Value, Tensor>): Tensor[] {
    const inputs = node.inputs.map((value) => value && read(value, stage, tensors));
    return withNode(node, () =>
      lookupOp(node)!.run(inputs, {
        node,
        opset: this.#routine.graph.opset(node.domain),
        outputCount: node.outputs.length,
        runSubgraph: (graph, bodyInputs) => {
          const { executor, outer } = this.#body(node, graph);
          const captured = outer.map((value) => read(value, stage, tensors));
          return driveSync(executor.walk([...bodyInputs, ...captured], new Map()), 0);
        },
      }),
    );
  }

  /** If, walked instead of run, so that the native steps of the branch do not block. */
  *#walkIf(node: Node, stage: Stage, tensors: Map<Value, Tensor>): Walk {
    const condition = read(node.requiredInput(0), stage, tensors);
    const branch = (condition.data as Uint8Array)[0] ? 'then_branch' : 'else_branch';
    const graph = node.attributes.graph(branch);
    if (!graph)
      throw new Q8Error('ERR_Q8_BAD_MODEL', `Node "${node.name}" (If) lacks its ${branch}.`, { node: node.name });
    const { executor, outer } = this.#body(node, graph);
    return yield* executor.walk(
      outer.map((value) => read(value, stage, tensors)),
      new Map(),
    );
  }

  #body(node: Node, graph: Graph): { executor: Executor; outer: readonly Value[] } {
    let body = this.#bodies.get(graph);
    if (!body) {
      const outer = [...this.#routine.graph.capturedBy(node)];
      body = { executor: new Executor(makeRoutine(graph, outer), this.#options), outer };
      this.#bodies.set(graph, body);
    }
    return body;
  }
}

/** Slices as a part of a walk. */
function* turnsOf<T>(slices: Slices<T>): Generator<null, T, void> {
  const turns = inTurns(slices);
  for (;;) {
    const { done, value } = turns.next();
    if (done) return value;
    yield null;
  }
}

/** Drives a walk on the calling thread. `threads`: 0 = all. */
export function driveSync(walk: Walk, threads: number): Tensor[] {
  try {
    for (;;) {
      const { done, value } = walk.next();
      if (done) return value;
      value?.program.runSync(value.inputs, value.outputs, threads);
    }
  } catch (error) {
    throw toQ8Error(error);
  } finally {
    walk.return([]);
  }
}

/**
 * Drives a walk with every native call on the pool. An abort stops it at the next step of the program in flight; the
 * promise settles when no native code touches the buffers any more. @throws signal.reason
 */
export async function drive(walk: Walk, threads: number, signal?: AbortSignal): Promise<Tensor[]> {
  const cancel = signal ? new Int32Array(1) : null;
  const abort = (): void => {
    cancel![0] = 1;
  };
  signal?.addEventListener('abort', abort);
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = walk.next();
      if (done) return value;
      if (value) await value.program.run(value.inputs, value.outputs, threads, cancel);
      else await nextTurn();
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw toQ8Error(error);
  } finally {
    signal?.removeEventListener('abort', abort);
    walk.return([]);
  }
}

function read(value: Value, stage: Stage, tensors: ReadonlyMap<Value, Tensor>): Tensor {
  const tensor = tensors.get(value) ?? stage.constantOf(value);
  if (!tensor) throw new Q8Error('ERR_Q8_INTERNAL', `Value "${value.name}" is read before it is made.`);
  return tensor;
}

function typeOf(tensor: Tensor): ValueType {
  return { dtype: tensor.type, shape: tensor.dims };
}

function keyOf(types: readonly ValueType[]): string {
  return types.map(({ dtype, shape }) => `${dtype}[${shape!.join()}]`).join(';');
}

function sameDims(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** A plan is built on inferred shapes: a result of another shape must never reach a native step. */
function checkPlanned(node: Node, tensor: Tensor, planned: ValueType | undefined): void {
  const { dtype, shape } = planned ?? {};
  const fits =
    shape?.every((dim, i) => typeof dim === 'string' || dim === tensor.dims[i]) && shape.length === tensor.dims.length;
  if (!planned || (dtype === tensor.type && (shape === undefined || fits))) return;
  throw new Q8Error(
    'ERR_Q8_SHAPE_MISMATCH',
    `Expected ${dtype} [${shape?.join(', ')}] for the output of node "${node.name}" (${node.op}) ` +
      `but received ${tensor.type} [${tensor.dims.join(', ')}].`,
    { node: node.name, hint: 'the model declares a shape that its operators do not make.' },
  );
}

function withNode<T>(node: Node, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof Q8Error && error.node !== undefined) throw error;
    const code = error instanceof Q8Error ? error.code : 'ERR_Q8_INTERNAL';
    throw new Q8Error(code, `Node "${node.name}" (${node.op}) failed: ${(error as Error).message}`, {
      node: node.name,
      cause: error,
    });
  }
}
