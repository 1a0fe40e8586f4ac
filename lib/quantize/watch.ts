/**
 * Shows the tensors inside a float model to their observers, sample by sample: as a whole, or by the extremes that the
 * engine finds where it has computed the tensor, so that few numbers leave it.
 */
import type { AttributeInit } from '../graph/attributes';
import { type Graph, isConcrete, type Value, type ValueType } from '../graph/graph';
import { inferTypes } from '../graph/infer';
import { lookupOp } from '../ops/registry';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import { sizeOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import type { CalibrationEngine, OpenEngine } from './engines/engine';
import type { ExtremesObserver, Observer } from './observers/observer';
import { isFiniteRange } from './scale';

type Feed = Readonly<Record<string, Tensor>>;

/** Elements that one run may give out (256 MiB of float32); more tensors are watched in further runs of the sample. */
const ELEMENTS_PER_RUN = 2 ** 26;

export interface Watch {
  /** Runs one sample. */
  observe(feed: Feed, signal?: AbortSignal): Promise<void>;
  release(): Promise<void>;
}

/** Where the float model runs. */
export interface WatchEngine {
  open: OpenEngine;
  threads: number;
}

/** A session that gives out some of the observed values. */
interface ObservedRun {
  session: CalibrationEngine;
  values: Value[];
}

/** Gives observers whole tensors. `feed` is any sample: its shapes decide how many tensors one run gives out. */
export async function watchTensors(
  graph: Graph,
  observers: ReadonlyMap<Value, Observer>,
  feed: Feed,
  { open, threads }: WatchEngine,
): Promise<Watch> {
  const runs: ObservedRun[] = [];
  const release = async (): Promise<void> => {
    for (const { session } of runs) await session.release();
  };
  try {
    for (const values of batches(graph, [...observers.keys()], feed)) {
      runs.push({ session: await open(withOutputs(graph, values), { threads }), values });
    }
  } catch (error) {
    await release();
    throw error;
  }
  return {
    async observe(sample, signal) {
      for (const { session, values } of runs) {
        const results = await session.run(sample);
        for (const value of values) observers.get(value)!.observe(results[value.name].data as Float32Array);
        signal?.throwIfAborted();
      }
    },
    release,
  };
}

/** The reductions that stand for a tensor. The sum tells whether all is finite: not every ReduceMin lets NaN through. */
const REDUCTIONS = ['ReduceMin', 'ReduceMax', 'ReduceSum'] as const;

/**
 * Gives observers the extremes of tensors, which the engine reduces; one run a sample, however large the tensors are.
 * A tensor that is empty or not finite in some sample is watched as a whole from that sample on, since its observer
 * wants the finite elements.
 */
export async function watchExtremes(
  graph: Graph,
  observers: ReadonlyMap<Value, ExtremesObserver>,
  engine: WatchEngine,
): Promise<Watch> {
  const { graph: reducing, reductions } = withReductions(graph, [...observers.keys()]);
  const session = await engine.open(reducing, { threads: engine.threads });
  const wholly = new Map<Value, Observer>();
  let whole: Watch | undefined;
  return {
    async observe(sample, signal) {
      const results = await session.run(sample);
      const known = wholly.size;
      for (const [value, names] of reductions) {
        if (wholly.has(value)) continue;
        const [min, max, sum] = names.map((name) => (results[name].data as Float32Array)[0]);
        const observer = observers.get(value)!;
        if (isFiniteRange({ min, max }) && Number.isFinite(sum)) observer.observeExtremes({ min, max });
        else wholly.set(value, observer);
      }
      signal?.throwIfAborted();
      if (wholly.size > known) {
        await whole?.release();
        whole = undefined;
        whole = await watchTensors(graph, new Map(wholly), sample, engine);
      }
      await whole?.observe(sample, signal);
    },
    async release() {
      await whole?.release();
      await session.release();
    },
  };
}

/** A copy of the graph that computes just the reductions of these values, and their names. */
function withReductions(graph: Graph, values: readonly Value[]): { graph: Graph; reductions: Map<Value, string[]> } {
  const copy = withOutputs(graph, values);
  // A model of nothing but operators of other domains.
  if (!copy.opsets.has('')) copy.opsets.set('', 13);
  const attributes: AttributeInit = { keepdims: { kind: 'int', value: 0 } };
  const reductions = new Map<Value, string[]>();
  const byName = new Map(values.map((value) => [value.name, value]));
  for (const input of copy.outputs.splice(0)) {
    const outputs = REDUCTIONS.map((op) => {
      const output = copy.newValue(`${input.name}/${op}`, { dtype: 'float32', shape: [] });
      copy.addNode({ name: output.name, op, inputs: [input], outputs: [output], attributes });
      return output;
    });
    copy.outputs.push(...outputs);
    reductions.set(
      byName.get(input.name)!,
      outputs.map(({ name }) => name),
    );
  }
  return { graph: copy, reductions };
}

/** Splits values so that those of each batch fit in memory together, by the sizes that this sample will give them. */
function batches(graph: Graph, values: readonly Value[], feed: Feed): Value[][] {
  const inputTypes = new Map(
    graph.inputs.map((value): [Value, ValueType] => {
      const { type, dims } = feed[value.name];
      return [value, { dtype: type, shape: dims }];
    }),
  );
  const types = inferTypes(graph, lookupOp, { inputTypes });
  const result: Value[][] = [];
  let elements = Number.POSITIVE_INFINITY;
  for (const value of values) {
    const shape = types.typeOf(value)?.shape;
    const size = isConcrete(shape) ? sizeOf(shape) : 0;
    if (elements + size > ELEMENTS_PER_RUN) {
      result.push([]);
      elements = 0;
    }
    result[result.length - 1].push(value);
    elements += size;
  }
  return result;
}

/** A copy of the graph that computes just these values. */
function withOutputs(graph: Graph, values: readonly Value[]): Graph {
  const copy = graph.clone();
  const wanted = new Set(values.map((value) => value.name));
  copy.outputs.length = 0;
  for (const node of copy.nodes) {
    for (const value of node.outputs) if (value && wanted.has(value.name)) copy.outputs.push(value);
  }
  removeDeadNodes(copy);
  return copy;
}
