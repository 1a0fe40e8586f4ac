/** Shows activations to the observers of an algorithm by running the float graph on samples, one at a time. */
import type { Graph, Value } from '../../graph/graph';
import { openQ8 } from '../engines/q8';
import type { CalibrationFeed } from '../options';
import { Tap } from '../tap';
import type { ActivationObserver, ActivationRequest } from './algorithm';

export interface StatisticsOptions {
  threads: number;
  signal?: AbortSignal;
}

/** Mean and largest magnitude by index of an axis, which may be negative. */
export class ChannelObserver implements ActivationObserver {
  readonly axis: number;
  /** Whether there were different numbers of channels; then those that all tensors have say something. */
  varies = false;
  #sum: Float64Array | undefined;
  #maxAbs: Float64Array | undefined;
  #count = 0;

  constructor(axis: number) {
    this.axis = axis;
  }

  observe(data: Float32Array, dims: readonly number[]): void {
    const axis = this.axis < 0 ? this.axis + dims.length : this.axis;
    const channels = dims[axis];
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
    this.#sum ??= new Float64Array(channels);
    this.#maxAbs ??= new Float64Array(channels);
    const sum = this.#sum;
    const maxAbs = this.#maxAbs;
    this.varies ||= channels !== sum.length;
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

  get mean(): Float64Array {
    const count = Math.max(1, this.#count);
    return (this.#sum ?? new Float64Array()).map((sum) => sum / count);
  }

  get maxAbs(): Float64Array {
    return this.#maxAbs ?? new Float64Array();
  }
}

/** Shows all samples. The graph is not changed. */
export async function showActivations(
  graph: Graph,
  requests: readonly ActivationRequest[],
  samples: readonly CalibrationFeed[],
  { threads, signal }: StatisticsOptions,
): Promise<void> {
  const observers = new Map<Value, ActivationObserver[]>();
  for (const { value, observer } of requests) observers.set(value, [...(observers.get(value) ?? []), observer]);
  if (observers.size === 0) return;
  const tap = await Tap.open(graph, [...observers.keys()], samples[0], { open: openQ8, threads });
  try {
    for (const sample of samples) {
      await tap.run(
        sample,
        (value, { data, dims }) => {
          for (const observer of observers.get(value)!) observer.observe(data as Float32Array, dims);
        },
        signal,
      );
    }
  } finally {
    await tap.release();
  }
}
