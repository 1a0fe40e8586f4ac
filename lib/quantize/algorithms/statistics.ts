/** Statistics of activations by channel, gathered by running the float graph on samples one at a time. */
import type { Graph, Value } from '../../graph/graph';
import { openQ8 } from '../engines/q8';
import type { CalibrationFeed } from '../options';
import { Tap } from '../tap';
import type { ChannelStatistics, StatisticRequest } from './algorithm';

export interface StatisticsOptions {
  threads: number;
  signal?: AbortSignal;
}

/** Takes in tensors, one after the other; their other sizes may differ. */
class ChannelObserver {
  readonly #axis: number;
  #sum: Float64Array | undefined;
  #maxAbs: Float64Array | undefined;
  #count = 0;

  constructor(axis: number) {
    this.#axis = axis;
  }

  observe(data: Float32Array, dims: readonly number[]): void {
    const axis = this.#axis < 0 ? this.#axis + dims.length : this.#axis;
    const channels = dims[axis];
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
    this.#sum ??= new Float64Array(channels);
    this.#maxAbs ??= new Float64Array(channels);
    const sum = this.#sum;
    const maxAbs = this.#maxAbs;
    for (let begin = 0, run = 0; begin < data.length; begin += inner, run++) {
      const channel = run % channels;
      for (let i = begin; i < begin + inner; i++) {
        sum[channel] += data[i];
        const magnitude = Math.abs(data[i]);
        if (magnitude > maxAbs[channel]) maxAbs[channel] = magnitude;
      }
    }
    this.#count += data.length / channels;
  }

  get statistics(): ChannelStatistics {
    const count = Math.max(1, this.#count);
    return {
      mean: (this.#sum ?? new Float64Array()).map((sum) => sum / count),
      maxAbs: this.#maxAbs ?? new Float64Array(),
    };
  }
}

/** By requested value. The graph is not changed. */
export async function gatherStatistics(
  graph: Graph,
  requests: readonly StatisticRequest[],
  samples: readonly CalibrationFeed[],
  { threads, signal }: StatisticsOptions,
): Promise<Map<Value, ChannelStatistics>> {
  const observers = new Map(requests.map(({ value, axis }) => [value, new ChannelObserver(axis)]));
  const tap = await Tap.open(graph, [...observers.keys()], samples[0], { open: openQ8, threads });
  try {
    for (const sample of samples) {
      await tap.run(
        sample,
        (value, { data, dims }) => observers.get(value)!.observe(data as Float32Array, dims),
        signal,
      );
    }
  } finally {
    await tap.release();
  }
  return new Map([...observers].map(([value, observer]) => [value, observer.statistics]));
}
