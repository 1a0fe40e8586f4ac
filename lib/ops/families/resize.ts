/**
 * Resizing along axes: for every output index of an axis, the input indices it reads and their weights. Axes are
 * independent, so that a resize is a sequence of these, one per axis that changes.
 */
import type { Node } from '../../graph/graph';
import { sizeOf } from '../../tensor/shape';
import { modelError } from './inference';
import { split3 } from './strided';

export type ResizeMode = 'nearest' | 'linear' | 'cubic';

export interface ResizeOptions {
  mode: ResizeMode;
  coordinates: string;
  nearest: string;
  cubicA: number;
  excludeOutside: boolean;
  antialias: boolean;
  extrapolation: number;
}

/** One axis to resize: `scale` is output / input before the output size was rounded down. */
export interface ResizeAxis {
  axis: number;
  input: number;
  output: number;
  scale: number;
  /** Crop box start and end for tf_crop_and_resize, in fractions of the axis. */
  roi: [number, number];
}

/** The input coordinate of output index `i`. */
function sourceCoordinate(
  node: Node,
  i: number,
  { input, output, scale, roi }: ResizeAxis,
  coordinates: string,
): number {
  const exact = scale * input;
  switch (coordinates) {
    case 'half_pixel':
      return (i + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric': {
      const offset = (input / 2) * (1 - output / exact);
      return offset + (i + 0.5) / scale - 0.5;
    }
    case 'pytorch_half_pixel':
      return exact <= 1 ? 0 : (i + 0.5) / scale - 0.5;
    case 'align_corners':
      return exact === 1 ? 0 : (i * (input - 1)) / (exact - 1);
    case 'asymmetric':
      return i / scale;
    case 'tf_half_pixel_for_nn':
      return (i + 0.5) / scale;
    case 'tf_crop_and_resize': {
      const [start, end] = roi;
      if (output === 1) return ((start + end) * (input - 1)) / 2;
      return start * (input - 1) + (i * (end - start) * (input - 1)) / (output - 1);
    }
    default:
      throw modelError(node, 'a known mode', 'coordinate_transformation_mode', coordinates);
  }
}

function nearestIndex(node: Node, x: number, mode: string): number {
  switch (mode) {
    case 'round_prefer_floor':
      return Math.ceil(x - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5);
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
    default:
      throw modelError(node, 'a known mode', 'nearest_mode', mode);
  }
}

/** The input index of every output index; -1 where tf_crop_and_resize reads outside. */
export function nearestIndices(node: Node, axis: ResizeAxis, options: ResizeOptions): Int32Array {
  return Int32Array.from({ length: axis.output }, (_, i) => {
    const x = sourceCoordinate(node, i, axis, options.coordinates);
    if (isOutside(x, axis, options)) return -1;
    return Math.max(0, Math.min(axis.input - 1, nearestIndex(node, x, options.nearest)));
  });
}

function isOutside(x: number, { input }: ResizeAxis, { coordinates }: ResizeOptions): boolean {
  return coordinates === 'tf_crop_and_resize' && (x < 0 || x > input - 1);
}

/** Weight of a tap at distance `d`: a triangle, or the cubic convolution kernel with parameter a. */
function kernelWeight(d: number, { mode, cubicA: a }: ResizeOptions): number {
  const x = Math.abs(d);
  if (mode === 'linear') return Math.max(0, 1 - x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
}

/** Taps of output index `i`: input indices (clamped to the edges) and weights. Null where the value is extrapolated. */
function tapsOf(
  node: Node,
  i: number,
  axis: ResizeAxis,
  options: ResizeOptions,
): { at: number[]; weights: number[] } | null {
  const x = sourceCoordinate(node, i, axis, options.coordinates);
  if (isOutside(x, axis, options)) return null;
  const support = options.mode === 'linear' ? 1 : 2;
  // Downsampling with antialias stretches the kernel so that every input element counts.
  const shrink = options.antialias ? Math.min(1, axis.scale) : 1;
  const reach = Math.ceil(support / shrink);
  const base = Math.ceil(x) - reach;
  const at: number[] = [];
  const weights: number[] = [];
  let sum = 0;
  for (let tap = base; tap < base + 2 * reach; tap++) {
    const outside = tap < 0 || tap >= axis.input;
    const weight = outside && options.excludeOutside ? 0 : kernelWeight((tap - x) * shrink, options);
    at.push(Math.max(0, Math.min(axis.input - 1, tap)));
    weights.push(weight);
    sum += weight;
  }
  const normalize = options.excludeOutside || options.antialias;
  return { at, weights: normalize ? weights.map((w) => w / sum) : weights };
}

/** Most taps of an element that the native step takes. */
const MAX_NATIVE_TAPS = 64;

/**
 * The taps of all output indices in arrays, `taps` of them each, without those that weigh nothing anywhere. Undefined where
 * values are extrapolated, or of too many.
 */
export function tapTable(
  node: Node,
  axis: ResizeAxis,
  options: ResizeOptions,
): { taps: number; indices: Int32Array; weights: Float32Array } | undefined {
  const rows = Array.from({ length: axis.output }, (_, i) => {
    const tap = tapsOf(node, i, axis, options);
    return (
      tap && [...tap.at.keys()].filter((t) => tap.weights[t] !== 0).map((t) => [tap.at[t], tap.weights[t]] as const)
    );
  });
  const taps = Math.max(1, ...rows.map((row) => row?.length ?? Number.POSITIVE_INFINITY));
  if (taps > MAX_NATIVE_TAPS) return undefined;
  const indices = new Int32Array(axis.output * taps);
  const weights = new Float32Array(axis.output * taps);
  for (const [i, row] of rows.entries()) {
    for (let t = 0; t < taps; t++) {
      // Missing ones weigh nothing.
      [indices[i * taps + t], weights[i * taps + t]] = row![t] ?? [row![0]?.[0] ?? 0, 0];
    }
  }
  return { taps, indices, weights };
}

/** Interpolates along one axis, in double. NaN marks extrapolated elements until {@link interpolate} fills them. */
function interpolateAxis(
  node: Node,
  x: Float64Array,
  dims: readonly number[],
  axis: ResizeAxis,
  options: ResizeOptions,
): Float64Array {
  const [outer, size, inner] = split3(dims, axis.axis);
  const taps = Array.from({ length: axis.output }, (_, i) => tapsOf(node, i, axis, options));
  const out = new Float64Array(outer * axis.output * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < axis.output; i++) {
      const to = (o * axis.output + i) * inner;
      const tap = taps[i];
      if (!tap) {
        out.fill(options.extrapolation, to, to + inner);
        continue;
      }
      for (let t = 0; t < tap.at.length; t++) {
        const from = (o * size + tap.at[t]) * inner;
        const weight = tap.weights[t];
        if (weight !== 0) for (let j = 0; j < inner; j++) out[to + j] += weight * x[from + j];
      }
    }
  }
  return out;
}

/** Linear or cubic interpolation over several axes. An element outside on any axis takes the extrapolation value. */
export function interpolate(
  node: Node,
  x: Float64Array,
  dims: readonly number[],
  axes: readonly ResizeAxis[],
  options: ResizeOptions,
): Float64Array {
  let values = x;
  const shape = [...dims];
  for (const axis of axes) {
    values = interpolateAxis(node, values, shape, axis, options);
    shape[axis.axis] = axis.output;
  }
  if (options.coordinates !== 'tf_crop_and_resize') return values;
  for (const axis of axes) {
    const [, size, inner] = split3(shape, axis.axis);
    const outside = Array.from({ length: size }, (_, i) =>
      isOutside(sourceCoordinate(node, i, axis, options.coordinates), axis, options),
    );
    for (let i = 0; i < sizeOf(shape); i++)
      if (outside[Math.floor(i / inner) % size]) values[i] = options.extrapolation;
  }
  return values;
}
