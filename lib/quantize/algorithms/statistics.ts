/** Statistics of activations by channel, gathered by running the float graph on samples one at a time. */
import type { Graph, Value } from '../../graph/graph';
import { removeDeadNodes } from '../../passes/remove-dead-nodes';
import { InferenceSession } from '../../runtime/session';
import type { CalibrationFeed } from '../options';
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
  const inputs = new Set(graph.inputs);
  const inside = [...observers.keys()].filter((value) => !inputs.has(value));
  const session = inside.length > 0 ? InferenceSession.fromGraph(withOutputs(graph, inside), { threads }) : undefined;
  try {
    for (const sample of samples) {
      signal?.throwIfAborted();
      const results = { ...sample, ...(await session?.run(sample, { signal })) };
      for (const [value, observer] of observers) {
        const { data, dims } = results[value.name];
        observer.observe(data as Float32Array, dims);
      }
    }
  } finally {
    session?.dispose();
  }
  return new Map([...observers].map(([value, observer]) => [value, observer.statistics]));
}

function withOutputs(graph: Graph, values: readonly Value[]): Graph {
  const copy = graph.clone();
  const wanted = new Set(values.map(({ name }) => name));
  copy.outputs.length = 0;
  for (const node of copy.nodes) {
    for (const value of node.outputs) if (value && wanted.has(value.name)) copy.outputs.push(value);
  }
  removeDeadNodes(copy);
  return copy;
}
