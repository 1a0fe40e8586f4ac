/** Constants seen as slices along an axis: what equalizing and smoothing multiply and measure. */
import { Tensor } from '../../tensor/tensor';

/** A copy whose slices along `axis` are multiplied by `factors`. */
export function scaleChannels(
  { data, dims }: Tensor<'float32'>,
  axis: number,
  factors: ArrayLike<number>,
): Tensor<'float32'> {
  const inner = innerSize(dims, axis);
  const scaled = data.map((x, i) => x * factors[Math.floor(i / inner) % dims[axis]]);
  return new Tensor('float32', scaled, dims);
}

/** Largest magnitude of each slice along `axis`. */
export function channelMaxima({ data, dims }: Tensor<'float32'>, axis: number): Float64Array {
  const inner = innerSize(dims, axis);
  const maxima = new Float64Array(dims[axis]);
  for (let i = 0; i < data.length; i++) {
    const channel = Math.floor(i / inner) % dims[axis];
    maxima[channel] = Math.max(maxima[channel], Math.abs(data[i]));
  }
  return maxima;
}

/** Elements of one step along an axis. */
export function innerSize(dims: readonly number[], axis: number): number {
  return dims.slice(axis + 1).reduce((a, b) => a * b, 1);
}
