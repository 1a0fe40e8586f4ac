/**
 * Binds a routine to concrete input shapes. One pass infers every shape and computes what depends on shapes only; then
 * nodes go to native segments or, where they have no native road, to TypeScript between segments. A stage ends at the
 * first node whose output shapes depend on data; what follows is bound when they are known.
 */
import type { Program } from '../../binding';
import { Q8Error } from '../errors';
import { isConcrete, type Node, subgraphsOf, type Value, type ValueType } from '../graph/graph';
import { type Inference, inferTypes } from '../graph/infer';
import { lookupOp } from '../ops/registry';
import { type DType, isFourBit } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { PlanCache } from './plan-cache';
import { macsOf } from './profile';
import type { Routine } from './routine';
import { type ClosedSegment, Segment, type SegmentHost } from './segment';
import type { WeightLease } from './shared-weights';
import type { Slices } from './slices';

/** One call of the addon. */
export interface NativeStep {
  kind: 'native';
  program: Program;
  inputs: readonly Value[];
  outputs: readonly { value: Value; dtype: DType; dims: readonly number[] }[];
  /** Kind and multiply-adds of each program step, and the nodes it computes (none: a conversion at the segment's end). */
  steps: readonly { op: string; macs: number; finish: readonly string[]; nodes: readonly Node[] }[];
}

/** One operator run in TypeScript. */
export interface NodeStep {
  kind: 'node';
  node: Node;
}

export type PlanStep = NativeStep | NodeStep;

/** How a node of a plan is executed. 'folded': computed while binding, nothing is left to do. */
export type Road = 'native' | 'typescript' | 'folded';

/** Everything between two shapes that depend on data. */
export interface Stage {
  readonly steps: readonly PlanStep[];
  readonly roads: ReadonlyMap<Node, Road>;
  typeOf(value: Value): ValueType | undefined;
  constantOf(value: Value): Tensor | undefined;
  /** Bytes of memory that one run needs for intermediate results. */
  readonly arenaBytes: number;
  /** What comes after: the values that it reads, and plans by their shapes. Null when the routine is complete. */
  readonly rest: {
    start: number;
    carried: readonly Value[];
    constants: ReadonlyMap<Value, Tensor>;
    plans: PlanCache<Stage>;
  } | null;
  /** Runs in flight. */
  users: number;
  retired: boolean;
}

export interface CompileOptions {
  weights: WeightLease;
  addon: typeof import('../../binding');
  planCacheSize: number;
}

/** What is known where a stage starts: the types of all values that it may read. */
export interface StageStart {
  start: number;
  types: ReadonlyMap<Value, ValueType>;
  constants: ReadonlyMap<Value, Tensor>;
}

/** Compiles `routine` from position `start` on, a node a slice. @throws with the node's name when shapes do not fit the model. */
export function* compileStage(routine: Routine, from: StageStart, options: CompileOptions): Slices<Stage> {
  const order = routine.order.slice(from.start);
  const inference = inferTypes(routine.graph, lookupOp, { inputTypes: from.types, constants: from.constants, order });
  const partition = new Partition(routine, inference, from, options);
  let end = from.start;
  while (end < routine.order.length && partition.add(routine.order[end])) {
    end++;
    yield;
  }
  const complete = end === routine.order.length;
  // The node that stopped the stage runs at its end; its results are carried with the others.
  if (!complete) partition.addDynamic(routine.order[end]);
  const next = complete ? end : end + 1;
  const isNeeded = (value: Value): boolean => routine.lastUse(value) >= next;
  const steps = partition.close(isNeeded);
  const produced = routine.order.slice(from.start, next).flatMap((node) => node.outputs.filter((v) => v !== null));
  return {
    steps,
    roads: partition.roads,
    typeOf: (value) => inference.typeOf(value),
    constantOf: (value) => inference.constantOf(value),
    arenaBytes: partition.arenaBytes,
    rest: complete
      ? null
      : restOf(next, [...from.types.keys(), ...produced].filter(isNeeded), from, inference, options),
    users: 0,
    retired: false,
  };
}

function restOf(
  start: number,
  live: readonly Value[],
  from: StageStart,
  inference: Inference,
  options: CompileOptions,
): Stage['rest'] {
  const constants = new Map<Value, Tensor>(from.constants);
  const carried = new Set<Value>();
  for (const value of live) {
    const tensor = inference.constantOf(value);
    if (tensor) constants.set(value, tensor);
    else carried.add(value);
  }
  return { start, carried: [...carried], constants, plans: new PlanCache(options.planCacheSize, retireStage) };
}

/** Frees a stage, and what follows it, as soon as no run uses it. */
export function retireStage(stage: Stage): void {
  stage.retired = true;
  stage.rest?.plans.clear();
  if (stage.users === 0) for (const step of stage.steps) if (step.kind === 'native') step.program.release();
}

/** Nodes of one stage, sorted into phases: phase p runs its TypeScript nodes, then its native segment. */
class Partition {
  readonly roads = new Map<Node, Road>();
  arenaBytes = 0;
  readonly #routine: Routine;
  readonly #inference: Inference;
  readonly #options: CompileOptions;
  readonly #host: SegmentHost;
  readonly #phases: { nodes: Node[]; segment: Segment; exported: Set<Value> }[] = [];
  /** Where a value comes from; values from outside the stage are not listed. */
  readonly #origins = new Map<Value, { phase: number; native: boolean }>();

  constructor(routine: Routine, inference: Inference, from: StageStart, options: CompileOptions) {
    this.#routine = routine;
    this.#inference = inference;
    this.#options = options;
    this.#host = {
      shape: (value) => this.#type(value).shape as readonly number[],
      dtype: (value) => this.#type(value).dtype,
      constant: (value) => inference.constantOf(value) ?? from.constants.get(value),
      weights: options.weights,
      addon: options.addon,
    };
  }

  /** Takes a node in. False, with nothing done, when the shape of an output depends on data. */
  add(node: Node): boolean {
    const outputs = node.outputs.filter((value) => value !== null);
    if (outputs.every((value) => this.#host.constant(value))) {
      this.roads.set(node, 'folded');
      return true;
    }
    if (outputs.some((value) => !isConcrete(this.#inference.typeOf(value)?.shape))) return false;
    const reads = this.#routine.reads(node).filter((value) => !this.#host.constant(value));
    const phase = Math.max(0, ...reads.map((value) => this.#origins.get(value)?.phase ?? 0));
    const definition = lookupOp(node);
    const opset = this.#routine.graph.opset(node.domain);
    const native =
      definition?.lower !== undefined &&
      this.#mayRunNatively(node) &&
      this.#withNode(node, () => this.#phase(phase).segment.lower(node, definition, opset));
    if (native) this.#place(node, reads, phase, true);
    else this.addDynamic(node);
    return true;
  }

  /** Takes a node in that runs in TypeScript, after the segments that make what it reads. */
  addDynamic(node: Node): void {
    const reads = this.#routine.reads(node).filter((value) => !this.#host.constant(value));
    const phase = Math.max(0, ...reads.map((value) => this.#readyAt(value)));
    this.#phase(phase).nodes.push(node);
    this.#place(node, reads, phase, false);
  }

  /** Builds the programs. Outputs that `isNeeded` says the rest or the caller reads are given out as tensors. */
  close(isNeeded: (value: Value) => boolean): PlanStep[] {
    for (const [value, origin] of this.#origins) {
      if (origin.native && isNeeded(value)) this.#phases[origin.phase].exported.add(value);
    }
    return this.#phases.flatMap(({ nodes, segment, exported }): PlanStep[] => {
      const steps = nodes.map((node): PlanStep => ({ kind: 'node', node }));
      return exported.size > 0 ? [...steps, this.#build(segment.close(exported))] : steps;
    });
  }

  #build({ description, inputs, outputs, nodes }: ClosedSegment): NativeStep {
    let program: Program;
    try {
      program = this.#options.addon.createProgram(description);
    } catch (cause) {
      const at = Number(/step (\d+)/i.exec((cause as Error).message)?.[1] ?? Number.NaN);
      const [node] = nodes[at] ?? [];
      const where = node ? ` at node "${node.name}" (${node.op})` : '';
      throw new Q8Error('ERR_Q8_INTERNAL', `The plan was refused${where}: ${(cause as Error).message}`, {
        node: node?.name,
        cause,
      });
    }
    this.arenaBytes = Math.max(this.arenaBytes, description.arenaBytes);
    return {
      kind: 'native',
      program,
      inputs,
      outputs: outputs.map((value) => ({ value, dtype: this.#host.dtype(value), dims: this.#host.shape(value) })),
      steps: description.steps.map((step, i) => ({
        op: step.op,
        macs: macsOf(step),
        finish: 'finish' in step ? (step.finish ?? []).map(({ kind }) => kind) : [],
        nodes: nodes[i],
      })),
    };
  }

  #place(node: Node, reads: readonly Value[], phase: number, native: boolean): void {
    this.roads.set(node, native ? 'native' : 'typescript');
    for (const value of node.outputs) if (value) this.#origins.set(value, { phase, native });
    for (const value of reads) {
      const origin = this.#origins.get(value);
      if (origin?.native && (!native || origin.phase !== phase)) this.#phases[origin.phase].exported.add(value);
    }
  }

  /** The first phase in which a TypeScript node can read the value. */
  #readyAt(value: Value): number {
    const origin = this.#origins.get(value);
    if (!origin) return 0;
    return origin.native ? origin.phase + 1 : origin.phase;
  }

  #phase(index: number): { nodes: Node[]; segment: Segment; exported: Set<Value> } {
    while (this.#phases.length <= index) {
      this.#phases.push({ nodes: [], segment: new Segment(this.#host), exported: new Set() });
    }
    return this.#phases[index];
  }

  /** Bodies, strings, 4-bit codes, and computed tensors without elements are left to TypeScript. */
  #mayRunNatively(node: Node): boolean {
    if (subgraphsOf(node).length > 0) return false;
    return [...node.inputs, ...node.outputs].every((value) => {
      if (!value) return true;
      const { dtype, shape } = this.#type(value);
      if (dtype === 'string' || isFourBit(dtype) || !isConcrete(shape)) return false;
      return sizeOf(shape) > 0 || this.#host.constant(value) !== undefined;
    });
  }

  #type(value: Value): ValueType {
    const type = this.#inference.typeOf(value);
    if (!type) throw new Q8Error('ERR_Q8_INTERNAL', `The type of value "${value.name}" is not known.`);
    return type;
  }

  #withNode<T>(node: Node, action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (error instanceof Q8Error) {
        if (error.node !== undefined) throw error;
        throw new Q8Error(error.code, `${error.message} (node "${node.name}", ${node.op})`, {
          node: node.name,
          cause: error,
        });
      }
      throw new Q8Error(
        'ERR_Q8_INTERNAL',
        `Node "${node.name}" (${node.op}) cannot be compiled: ${(error as Error).message}`,
        {
          node: node.name,
          cause: error,
        },
      );
    }
  }
}
