/**
 * Shows the tensors inside a float model to their observers, sample by sample: as a whole, or by the extremes that the
 * engine finds where it has computed the tensor, so that few numbers leave it.
 */
import type { AttributeInit } from '../graph/attributes';
import type { Graph, Value } from '../graph/graph';
import { copyOf } from '../passes/give-out';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import type { ExtremesObserver, Observer } from './observers/observer';
import { isFiniteRange } from './scale';
import { type Feed, Tap, type TapEngine } from './tap';

export interface Watch {
  /** Runs one sample. */
  observe(feed: Feed, signal?: AbortSignal): Promise<void>;
  release(): Promise<void>;
}

/** Gives observers whole tensors. `feed` is any sample: its shapes decide how many tensors one run gives out. */
export async function watchTensors(
  graph: Graph,
  observers: ReadonlyMap<Value, Observer>,
  feed: Feed,
  engine: TapEngine,
): Promise<Watch> {
  const tap = await Tap.open(graph, [...observers.keys()], feed, engine);
  return {
    observe: (sample, signal) =>
      tap.run(sample, (value, { data }) => observers.get(value)!.observe(data as Float32Array), signal),
    release: () => tap.release(),
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
  engine: TapEngine,
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
  const { copy, twinOf } = copyOf(graph);
  // A model of nothing but operators of other domains.
  if (!copy.opsets.has('')) copy.opsets.set('', 13);
  const attributes: AttributeInit = { keepdims: { kind: 'int', value: 0 } };
  const reductions = new Map<Value, string[]>();
  copy.outputs.length = 0;
  for (const value of values) {
    const outputs = REDUCTIONS.map((op) => {
      const output = copy.newValue(`${value.name}/${op}`, { dtype: 'float32', shape: [] });
      copy.addNode({ name: output.name, op, inputs: [twinOf(value)], outputs: [output], attributes });
      return output;
    });
    copy.outputs.push(...outputs);
    reductions.set(
      value,
      outputs.map(({ name }) => name),
    );
  }
  removeDeadNodes(copy);
  return { graph: copy, reductions };
}
