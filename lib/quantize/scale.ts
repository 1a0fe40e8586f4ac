/**
 * From ranges to scales and zero points, and from weights to codes. The order of operations and the width of every
 * intermediate are those of ONNX Runtime's Python quantizer, so that equal ranges give equal bits. Pure arithmetic.
 */
import { type Quantization, quantizeCode, roundHalfEven } from '../ops/families/quantization';
import { codeRange, type QuantizedDType } from '../tensor/dtype';

/** Smallest normal float32. Smaller scales would lose bits. */
const TINY = 2 ** -126;
const INT32_MAX = 2 ** 31 - 1;
const INFINITY = Number.POSITIVE_INFINITY;

/** A closed interval of float32 values. */
export interface Range {
  min: number;
  max: number;
}

export interface ScaleOptions {
  dtype: QuantizedDType;
  /** The range is widened to [-a, a]; the zero point is then 0 (int8) or 128 (uint8). */
  symmetric?: boolean;
  /** Use 7 bits (0..127, -64..64), so that pairs of products fit 16 bits on CPUs that saturate there. */
  reduceRange?: boolean;
  /** Floor for max - min. */
  minRealRange?: number;
}

/** real = (code - zeroPoint) * scale. `scale` is a float32 value. */
export type ScaleAndZeroPoint = Pick<Quantization, 'scale' | 'zeroPoint'>;

/** The codes over which a range is spread. Rounding clips to the full range of the type all the same. */
function codesFor({ dtype, symmetric, reduceRange }: ScaleOptions): [number, number] {
  if (reduceRange) return dtype === 'uint8' ? [0, 127] : [-64, 64];
  return dtype === 'int8' && symmetric ? [-127, 127] : codeRange(dtype);
}

/**
 * Scale and zero point of a finite range. Zero is always representable. A range without extent gives scale 1, zero
 * point 0.
 */
export function scaleOfRange(range: Range, options: ScaleOptions): ScaleAndZeroPoint {
  const [qmin, qmax] = codesFor(options);
  let min = Math.min(range.min, 0);
  let max = Math.max(range.max, 0);
  if (options.minRealRange !== undefined) {
    max = Math.max(max, Math.fround(min + Math.fround(options.minRealRange)));
  }
  if (options.symmetric) {
    max = Math.max(-min, max);
    min = -max;
  }
  const scale = Math.fround(max - min) / (qmax - qmin);
  if (!(scale >= TINY)) return { scale: 1, zeroPoint: 0 };
  // The zero point comes from the scale before it is rounded to float32.
  const zeroPoint = roundHalfEven(options.symmetric ? (qmin + qmax) / 2 : qmin - min / scale);
  // Adding zero turns -0 into 0.
  return { scale: Math.fround(scale), zeroPoint: zeroPoint + 0 };
}

/** Smallest and largest finite element; [0, 0] when there is none. */
export function rangeOf(data: Float32Array): Range {
  let min = INFINITY;
  let max = -INFINITY;
  // An indexed loop: calibration spends its time here, and an iterator is ten times slower.
  for (let i = 0; i < data.length; i++) {
    const value = data[i];
    if (value < min && value !== -INFINITY) min = value;
    if (value > max && value !== INFINITY) max = value;
  }
  return min <= max ? { min, max } : { min: 0, max: 0 };
}

/** Scales of a weight: one, or one per index of `axis`. */
export function weightScales(
  data: Float32Array,
  dims: readonly number[],
  axis: number | undefined,
  options: ScaleOptions,
): { scale: Float32Array; zeroPoint: Uint8Array | Int8Array } {
  const channels = axis === undefined ? 1 : dims[axis];
  const scale = new Float32Array(channels);
  const zeroPoint = options.dtype === 'uint8' ? new Uint8Array(channels) : new Int8Array(channels);
  // Onnxruntime wants one zero point for all channels: a channel of zeros takes that of the others.
  const shared =
    options.symmetric && axis !== undefined ? scaleOfRange({ min: -1, max: 1 }, options).zeroPoint : undefined;
  channelRanges(data, dims, axis).forEach((range, c) => {
    const params = scaleOfRange(range, options);
    scale[c] = params.scale;
    zeroPoint[c] = shared ?? params.zeroPoint;
  });
  return { scale, zeroPoint };
}

/** Codes of a weight: `scale` and `zeroPoint` have one element, or one per index of `axis`. */
export function quantizeWeight(
  data: Float32Array,
  dims: readonly number[],
  axis: number | undefined,
  scale: Float32Array,
  zeroPoint: Uint8Array | Int8Array,
): Uint8Array | Int8Array {
  const dtype = zeroPoint instanceof Uint8Array ? 'uint8' : 'int8';
  const [low, high] = codeRange(dtype);
  const codes = dtype === 'uint8' ? new Uint8Array(data.length) : new Int8Array(data.length);
  forEachRun(data.length, dims, axis, (c, begin, end) => {
    for (let i = begin; i < end; i++) codes[i] = quantizeCode(data[i], scale[c], zeroPoint[c], low, high);
  });
  return codes;
}

function channelRanges(data: Float32Array, dims: readonly number[], axis: number | undefined): Range[] {
  if (axis === undefined) return [rangeOf(data)];
  const ranges = Array.from({ length: dims[axis] }, (): Range => ({ min: 0, max: 0 }));
  forEachRun(data.length, dims, axis, (c, begin, end) => {
    const run = rangeOf(data.subarray(begin, end));
    ranges[c].min = Math.min(ranges[c].min, run.min);
    ranges[c].max = Math.max(ranges[c].max, run.max);
  });
  return ranges;
}

/** Visits the contiguous runs of elements that belong to one channel. */
function forEachRun(
  size: number,
  dims: readonly number[],
  axis: number | undefined,
  visit: (channel: number, begin: number, end: number) => void,
): void {
  if (size === 0) return;
  if (axis === undefined) {
    visit(0, 0, size);
    return;
  }
  const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  for (let begin = 0, run = 0; begin < size; begin += inner, run++) visit(run % dims[axis], begin, begin + inner);
}

/**
 * Weight scales such that every bias fits int32 at scale inputScale * weightScale: where a bias is too large, the weight's
 * scale grows. Returns the same array when nothing has to change. `bias` has one element per channel, or the weight has
 * one scale for all.
 */
export function guardBiasRange(weightScale: Float32Array, inputScale: number, bias: Float32Array): Float32Array {
  const perTensor = weightScale.length === 1;
  let guarded = weightScale;
  for (let c = 0; c < weightScale.length; c++) {
    const { min, max } = rangeOf(perTensor ? bias : bias.subarray(c, c + 1));
    const smallest = (1.0001 * (2 * Math.max(Math.abs(min), Math.abs(max)))) / (2 * INT32_MAX);
    const product = inputScale * weightScale[c];
    if (product <= 0 || product >= smallest) continue;
    if (guarded === weightScale) guarded = weightScale.slice();
    guarded[c] = weightScale[c] * (smallest / product);
  }
  return guarded;
}
