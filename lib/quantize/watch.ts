/**
 * Shows the tensors inside a float model to their observers, sample by sample: as a whole, or by the extremes that the
 * engine finds where it has computed the tensor, so that few numbers leave it.
 */
import type { AttributeInit } from '../graph/attributes';
import { graphsOf } from '../graph/bodies';
import { type Graph, subgraphsOf, type Value } from '../graph/graph';
import { forget, remember } from '../ops/observe';
import { copyOf } from '../passes/give-out';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import type { ExtremesObserver, Observer } from './observers/observer';
import { isFiniteRange } from './scale';
import { type Feed, Tap, type TapEngine } from './tap';
import { openQ8 } from './engines/q8';

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

/**
 * Gives observers the tensors in bodies of control flow, as often as bodies run. Only q8 can look into them.
 * @throws ERR_Q8_UNSUPPORTED_OP when q8 does not run an operator of the model.
 */
export async function watchBodies(
  graph: Graph,
  observers: ReadonlyMap<Value, Observer>,
  threads: number,
): Promise<Watch> {
  const { copy, twinOf } = copyOf(graph);
  copy.outputs.length = 0;
  for (const node of copy.nodes) {
    if (subgraphsOf(node).length > 0) copy.outputs.push(...node.outputs.filter((value) => value !== null));
  }
  const twins = new Map([...observers].map(([value, observer]) => [twinOf(value), observer]));
  const remembered: number[] = [];
  for (const body of graphsOf(copy)) {
    const values = [...body.inputs, ...[...body.nodes].flatMap(({ outputs }) => outputs)];
    for (const value of values) {
      const observer = value && twins.get(value);
      if (!observer) continue;
      const number = remember(({ data }) => observer.observe(data as Float32Array));
      remembered.push(number);
      observeIn(body, value, number);
    }
  }
  removeDeadNodes(copy);
  const session = await openQ8(copy, { threads });
  return {
    observe: async (sample) => void (await session.run(sample)),
    release: async () => {
      remembered.forEach(forget);
      await session.release();
    },
  };
}

/** All that reads `value` reads it through a node that the observer sees. */
function observeIn(body: Graph, value: Value, observer: number): void {
  const readers = value.consumers;
  const seen = body.newValue(`${value.name}_observed`, value.type);
  body.addNode({
    name: seen.name,
    op: 'Observe',
    domain: 'ai.q8',
    inputs: [value],
    outputs: [seen],
    attributes: { observer: { kind: 'int', value: observer } },
  });
  for (const node of readers) {
    for (const [i, input] of node.inputs.entries()) if (input === value) node.setInput(i, seen);
  }
  for (const graph of graphsOf(body)) {
    for (const [i, output] of graph.outputs.entries()) if (output === value) graph.outputs[i] = seen;
  }
}
