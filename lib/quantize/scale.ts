/**
 * From ranges to scales and zero points, and from weights to codes. The order of operations and the width of every
 * intermediate are those of ONNX Runtime's Python quantizer, so that equal ranges give equal bits. Pure arithmetic.
 */
import { roundHalfEven } from '../ops/families/quantization';
import { allocate, bytesOf, type CodeDType, codeRange, type DataOf } from '../tensor/dtype';

/** Smallest normal float32. Smaller scales would lose bits. */
const TINY = 2 ** -126;
const INT32_MAX = 2 ** 31 - 1;
const INFINITY = Number.POSITIVE_INFINITY;
/** Added and taken away again, it rounds doubles below 2^51 to integers, ties to even: nothing finer fits beside it. */
const ROUNDER = 1.5 * 2 ** 52;

/** A closed interval of float32 values. */
export interface Range {
  min: number;
  max: number;
}

export interface ScaleOptions {
  dtype: CodeDType;
  /** The range is widened to [-a, a]; the zero point is then the middle of the type: 0, or 2^(bits - 1) if unsigned. */
  symmetric?: boolean;
  /** Use one bit less (0..127, -64..64), so that pairs of products fit 16 bits on CPUs that saturate there. */
  reduceRange?: boolean;
  /** Floor for max - min. */
  minRealRange?: number;
  /** For uint8 that is not symmetric: zero points 0 (no value is negative) and 128 only. */
  restrictZeroPoint?: boolean;
}

/** real = (code - zeroPoint) * scale. `scale` is a float32 value. */
export interface ScaleAndZeroPoint {
  scale: number;
  zeroPoint: number;
}

/** Codes of a constant: elements of the storage of a {@link CodeDType}. */
export type Codes = DataOf[CodeDType];

/** Scales per index of an axis, or per block of `block` indices of it. One for all when undefined. */
export type Granularity = { axis: number; block?: number } | undefined;

/** The codes over which a range is spread. Rounding clips to the full range of the type all the same. */
export function codesFor({ dtype, symmetric, reduceRange }: ScaleOptions): [number, number] {
  const [low, high] = codeRange(dtype);
  const isWideSigned = dtype === 'int8' || dtype === 'int16';
  if (reduceRange) {
    if (low === 0) return [0, (high - 1) / 2];
    return isWideSigned ? [low / 2, -low / 2] : [low / 2, (high - 1) / 2];
  }
  return symmetric && isWideSigned ? [-high, high] : [low, high];
}

/**
 * Scale and zero point of a finite range. Zero is always representable. A range without extent gives scale 1, zero
 * point 0.
 */
export function scaleOfRange(range: Range, options: ScaleOptions): ScaleAndZeroPoint {
  const [qmin, qmax] = codesFor(options);
  if (options.restrictZeroPoint && options.dtype === 'uint8' && !options.symmetric) {
    return restrictedScale(range, qmin, qmax, options.minRealRange);
  }
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

/** The scale that covers a range around a zero point at the low end or in the middle of the codes. */
function restrictedScale(range: Range, qmin: number, qmax: number, minRealRange = 0): ScaleAndZeroPoint {
  const middle = (qmin + qmax + 1) >> 1;
  const min = Math.min(range.min, 0);
  const max = Math.max(range.max, 0, min + minRealRange);
  const floor = minRealRange / (qmax - qmin);
  if (min === max) return { scale: Math.fround(1 / (qmax - qmin)), zeroPoint: qmin };
  const zeroPoint = min >= 0 ? qmin : middle;
  const below = zeroPoint === qmin ? 0 : -min / (zeroPoint - qmin);
  const scale = Math.fround(Math.max(below, max / (qmax - zeroPoint)));
  return { scale: scale < floor ? Math.fround(floor) : scale, zeroPoint };
}

/** For a block of a weight the zero point follows from the scale as it is stored. */
function blockScale(range: Range, options: ScaleOptions): ScaleAndZeroPoint {
  const [qmin, qmax] = codesFor(options);
  const { scale, zeroPoint } = scaleOfRange(range, options);
  if (options.symmetric) return { scale, zeroPoint: roundHalfEven((qmin + qmax) / 2) + 0 };
  if (scale === 1 && zeroPoint === 0) return { scale, zeroPoint };
  const rounded = roundHalfEven(qmin - Math.min(range.min, 0) / scale);
  return { scale, zeroPoint: Math.min(Math.max(rounded, qmin), qmax) };
}

/**
 * Smallest and largest element. Both are finite exactly when all elements are, and there are any: NaN spreads to them, and
 * infinities are extremes themselves.
 */
export function extremesOf(data: Float32Array): Range {
  let min = INFINITY;
  let max = -INFINITY;
  // An indexed loop without branches: calibration spends its time here.
  for (let i = 0; i < data.length; i++) {
    min = Math.min(min, data[i]);
    max = Math.max(max, data[i]);
  }
  return { min, max };
}

/** Smallest and largest finite element; [0, 0] when there is none. */
export function rangeOf(data: Float32Array): Range {
  const extremes = extremesOf(data);
  if (isFiniteRange(extremes)) return extremes;
  let min = INFINITY;
  let max = -INFINITY;
  for (let i = 0; i < data.length; i++) {
    const value = data[i];
    if (value < min && value !== -INFINITY) min = value;
    if (value > max && value !== INFINITY) max = value;
  }
  return min <= max ? { min, max } : { min: 0, max: 0 };
}

/** Whether both ends are numbers. */
export function isFiniteRange({ min, max }: Range): boolean {
  return Number.isFinite(min) && Number.isFinite(max);
}

/** The shape of scales and zero points of a weight. */
export function scaleDims(dims: readonly number[], granularity: Granularity): number[] {
  if (!granularity) return [];
  const { axis, block } = granularity;
  return block ? dims.map((dim, i) => (i === axis ? Math.ceil(dim / block) : dim)) : [dims[axis]];
}

export interface WeightScaleOptions extends ScaleOptions {
  /** What the codes have to cover, instead of the extremes of the data: one range, or one per index of the axis. */
  ranges?: readonly Range[];
  /**
   * Channels of zeros take scale 1 and zero point 0, as onnxruntime's tool has it, instead of the zero point of the other
   * channels, which its kernels want. Default false.
   */
  zeroChannelsApart?: boolean;
}

/** Scales of a weight, as many as {@link scaleDims} says. */
export function weightScales(
  data: Float32Array,
  dims: readonly number[],
  granularity: Granularity,
  options: WeightScaleOptions,
): { scale: Float32Array; zeroPoint: Codes } {
  const count = scaleDims(dims, granularity).reduce((a, b) => a * b, 1);
  const scale = new Float32Array(count);
  const zeroPoint = allocate(options.dtype, count);
  const isPerChannel = granularity !== undefined && !granularity.block;
  const shared =
    options.symmetric && isPerChannel && !options.zeroChannelsApart
      ? scaleOfRange({ min: -1, max: 1 }, options).zeroPoint
      : undefined;
  const given = options.ranges;
  const rangeOfGroup = given
    ? (c: number) => given[given.length === 1 ? 0 : c]
    : groupRanges(data, dims, granularity, count);
  const scaleOf = granularity?.block ? blockScale : scaleOfRange;
  for (let c = 0; c < count; c++) {
    const params = scaleOf(rangeOfGroup(c), options);
    scale[c] = params.scale;
    zeroPoint[c] = shared ?? params.zeroPoint;
  }
  return { scale, zeroPoint };
}

/** Codes of a weight, by the scales and zero points of {@link weightScales}. */
export function quantizeWeight(
  data: Float32Array,
  dims: readonly number[],
  granularity: Granularity,
  { scale, zeroPoint, dtype }: { scale: Float32Array; zeroPoint: Codes; dtype: CodeDType },
): Codes {
  const [low, high] = codeRange(dtype);
  const codes = allocate(dtype, data.length);
  // Loops that always meet the same types of arrays are several times as fast; what is stored keeps its low bits.
  const stored = bytesOf(dtype) === 1 ? new Uint8Array(codes.buffer) : new Uint16Array(codes.buffer);
  const zeros = new Int32Array(zeroPoint);
  forEachRun(data.length, dims, granularity, (group, step, begin, end) => {
    for (let i = begin, g = group; i < end; i++, g += step) {
      // quantizeCode(), but for the way to round.
      const zero = zeros[g];
      const value = Math.fround(data[i] / scale[g]);
      const clamped = value > low - zero ? (value < high - zero ? value : high - zero) : low - zero;
      stored[i] = clamped + ROUNDER - ROUNDER + zero;
    }
  });
  return codes;
}

/** Smallest and largest finite element of each group, which zero is taken to be part of. */
function groupRanges(
  data: Float32Array,
  dims: readonly number[],
  granularity: Granularity,
  count: number,
): (group: number) => Range {
  const mins = new Float32Array(count);
  const maxs = new Float32Array(count);
  forEachRun(data.length, dims, granularity, (group, step, begin, end) => {
    for (let i = begin, g = group; i < end; i++, g += step) {
      const value = data[i];
      if (value < mins[g] && value !== -INFINITY) mins[g] = value;
      if (value > maxs[g] && value !== INFINITY) maxs[g] = value;
    }
  });
  return (group) => ({ min: mins[group], max: maxs[group] });
}

/**
 * Visits the contiguous runs of elements whose groups, which are what has one scale, follow by a rule: all are `group`
 * (step 0), or they count up from it (step 1).
 */
function forEachRun(
  size: number,
  dims: readonly number[],
  granularity: Granularity,
  visit: (group: number, step: 0 | 1, begin: number, end: number) => void,
): void {
  if (size === 0) return;
  if (!granularity) {
    visit(0, 0, 0, size);
    return;
  }
  const { axis, block } = granularity;
  const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const channels = dims[axis];
  if (!block) {
    if (inner === 1) for (let begin = 0; begin < size; begin += channels) visit(0, 1, begin, begin + channels);
    else
      for (let begin = 0, run = 0; begin < size; begin += inner, run++) visit(run % channels, 0, begin, begin + inner);
    return;
  }
  const blocks = Math.ceil(channels / block);
  for (let begin = 0, outer = 0; begin < size; outer++) {
    for (let channel = 0; channel < channels; channel += inner === 1 ? block : 1) {
      const group = (outer * blocks + Math.floor(channel / block)) * inner;
      const length = inner === 1 ? Math.min(block, channels - channel) : inner;
      visit(group, inner === 1 ? 0 : 1, begin, begin + length);
      begin += length;
    }
  }
}

/**
 * Weight scales such that every bias fits int32 at scale inputScale * weightScale: where a bias is too large, the weight's
 * scale grows. Returns the same array when nothing has to change. Element i of `bias` belongs to scale i modulo their number.
 */
export function guardBiasRange(weightScale: Float32Array, inputScale: number, bias: Float32Array): Float32Array {
  const perTensor = weightScale.length === 1;
  let guarded = weightScale;
  for (let c = 0; c < weightScale.length; c++) {
    let most = 0;
    for (let i = c; i < bias.length; i += weightScale.length) {
      if (Math.abs(bias[i]) < INFINITY) most = Math.max(most, Math.abs(bias[i]));
    }
    const largest = 2 * most;
    // Onnxruntime's tool has this product in double for one scale, and in float32 for scales of channels.
    const margin = perTensor ? 1.0001 * largest : Math.fround(Math.fround(1.0001) * Math.fround(largest));
    const smallest = margin / (2 * INT32_MAX);
    const product = inputScale * weightScale[c];
    if (product <= 0 || product >= smallest) continue;
    if (guarded === weightScale) guarded = weightScale.slice();
    guarded[c] = weightScale[c] * (smallest / product);
  }
  return guarded;
}
