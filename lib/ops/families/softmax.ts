/** Softmax in double, shared by the float and the 8-bit operator. */
import type { Node } from '../../graph/graph';
import { axisOf } from './inference';
import { extent } from './lowering';
import { split3 } from './strided';

/** [outer, size, inner] of the normalized axis. Before opset 13 all axes from `axis` on are normalized as one. */
export function softmaxView(
  node: Node,
  shape: readonly number[],
  axis: number,
  opset: number,
): [number, number, number] {
  if (shape.length === 0) return [1, 1, 1];
  const at = axisOf(node, axis, shape.length);
  return opset < 13 ? [extent(shape, 0, at), extent(shape, at), 1] : split3(shape, at);
}

/** exp(x - max) / sum over the middle of [outer, size, inner]. */
export function softmax(x: Float64Array, [outer, size, inner]: [number, number, number]): Float64Array {
  const out = new Float64Array(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = o * size * inner + i;
      let max = Number.NEGATIVE_INFINITY;
      for (let j = 0; j < size; j++) max = Math.max(max, x[at + j * inner]);
      let sum = 0;
      for (let j = 0; j < size; j++) {
        const value = Math.exp(x[at + j * inner] - max);
        out[at + j * inner] = value;
        sum += value;
      }
      for (let j = 0; j < size; j++) out[at + j * inner] /= sum;
    }
  }
  return out;
}
