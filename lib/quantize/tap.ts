/**
 * Runs a float graph and hands out tensors inside it, sample by sample: the one way in which the quantizer looks into a
 * model. However many tensors are asked for, those in memory at a time are bounded.
 */
import type { Graph, Value } from '../graph/graph';
import { batchesOf, givingOut } from '../passes/give-out';
import type { Tensor } from '../tensor/tensor';
import type { CalibrationEngine, EngineResult, OpenEngine } from './engines/engine';
import { Turns } from './turns';

export type Feed = Readonly<Record<string, Tensor>>;

/** Where a float model runs. */
export interface TapEngine {
  open: OpenEngine;
  threads: number;
}

/** Takes in a tensor. What it is given belongs to it alone, but for inputs of the model. */
export type Visit = (value: Value, result: EngineResult) => void;

/** A session that gives out some of the values. */
interface TapRun {
  session: CalibrationEngine;
  values: readonly Value[];
}

export class Tap {
  readonly #inputs: readonly Value[];
  readonly #runs: readonly TapRun[];

  private constructor(inputs: readonly Value[], runs: readonly TapRun[]) {
    this.#inputs = inputs;
    this.#runs = runs;
  }

  /**
   * For these values of the graph, inputs among them.
   * @param feed any sample: its shapes decide how many tensors one run gives out.
   */
  static async open(graph: Graph, values: readonly Value[], feed: Feed, { open, threads }: TapEngine): Promise<Tap> {
    const given = new Set(graph.inputs);
    const inside = values.filter((value) => !given.has(value));
    const runs: TapRun[] = [];
    const tap = new Tap(
      values.filter((value) => given.has(value)),
      runs,
    );
    try {
      for (const batch of batchesOf(graph, inside, (value) => value, feed)) {
        const tensors = batch.map((value) => ({ name: value.name, value }));
        runs.push({ session: await open(givingOut(graph, tensors), { threads }), values: batch });
      }
    } catch (error) {
      await tap.release();
      throw error;
    }
    return tap;
  }

  /** Runs one sample and shows every tensor once. The signal is heard between runs and visits. */
  async run(feed: Feed, visit: Visit, signal?: AbortSignal): Promise<void> {
    const turns = new Turns(signal);
    for (const value of this.#inputs) visit(value, feed[value.name]);
    for (const { session, values } of this.#runs) {
      signal?.throwIfAborted();
      const results = await session.run(feed);
      for (const value of values) {
        visit(value, results[value.name]);
        await turns.pass();
      }
    }
    signal?.throwIfAborted();
  }

  async release(): Promise<void> {
    for (const { session } of this.#runs) await session.release();
  }
}
