/**
 * Weight clipping: for every scale, the range with the least squared error of all weights, instead of the range of the
 * largest one. A smaller range has finer steps for all and cuts the largest off. Weights are cut at the range found, so that
 * whatever takes scales from extremes afterwards finds it.
 */
import { Tensor } from '../../tensor/tensor';
import { quantizeCode } from '../../ops/families/quantization';
import { codeRange } from '../../tensor/dtype';
import { rangeOf, type ScaleOptions, scaleOfRange } from '../scale';
import { type Algorithm, type AlgorithmContext, weightedNodes } from './algorithm';
import { innerSize } from './channels';

/** Ranges tried: shares of the full one, from 1 down. 8 bits never want less than half. */
const SHARES = Array.from({ length: 26 }, (_, i) => 1 - i * 0.02);

export const clipWeights: Algorithm = {
  changesActivations: false,

  *steps(context) {
    yield { requests: [], apply: () => clipAll(context) };
  },
};

function clipAll(context: AlgorithmContext): string[] {
  const changed: string[] = [];
  const done = new Set<unknown>();
  for (const { node, weight, axis, format } of weightedNodes(context)) {
    if (done.has(weight)) continue;
    done.add(weight);
    const tensor = weight.constant as Tensor<'float32'>;
    const clipped = clip(tensor, axis, format);
    if (!clipped) continue;
    weight.constant = clipped;
    changed.push(node.name);
  }
  return changed;
}

/** The tensor with its slices cut at their best ranges; undefined when those are the full ones. */
function clip({ data, dims }: Tensor<'float32'>, axis: number | undefined, options: ScaleOptions): Tensor | undefined {
  const channels = axis === undefined ? 1 : dims[axis];
  const inner = axis === undefined ? data.length : innerSize(dims, axis);
  const result = data.slice();
  let isChanged = false;
  for (let c = 0; c < channels; c++) {
    const slice = new Float32Array(data.length / channels);
    for (let i = 0, at = c * inner; i < slice.length; i += inner, at += inner * channels) {
      slice.set(data.subarray(at, at + inner), i);
    }
    let full = rangeOf(slice);
    // Symmetric codes reach as far on either side.
    const largest = Math.max(-full.min, full.max);
    if (options.symmetric) full = { min: -largest, max: largest };
    let best = 1;
    let least = Number.POSITIVE_INFINITY;
    for (const share of SHARES) {
      const error = squaredError(slice, { min: full.min * share, max: full.max * share }, options);
      if (error >= least) continue;
      least = error;
      best = share;
    }
    if (best === 1) continue;
    isChanged = true;
    const low = Math.fround(full.min * best);
    const high = Math.fround(full.max * best);
    for (let at = c * inner; at < data.length; at += inner * channels) {
      for (let i = at; i < at + inner; i++) result[i] = Math.min(high, Math.max(low, data[i]));
    }
  }
  return isChanged ? new Tensor('float32', result, dims) : undefined;
}

function squaredError(data: Float32Array, range: { min: number; max: number }, options: ScaleOptions): number {
  const { scale, zeroPoint } = scaleOfRange(range, options);
  const [low, high] = codeRange(options.dtype);
  let sum = 0;
  for (let i = 0; i < data.length; i++) {
    const error = (quantizeCode(data[i], scale, zeroPoint, low, high) - zeroPoint) * scale - data[i];
    sum += error * error;
  }
  return sum;
}
