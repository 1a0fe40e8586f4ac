/** Window pooling in TypeScript over [N, C, ...spatial] with one to three spatial axes. */
import type { Dim } from '../../graph/graph';
import { sizeOf } from '../../tensor/shape';
import type { InferContext } from '../define-op';
import { modelError, type Shape } from './inference';
import { inferWindow, toSpatialRank, type Window, windowAttributes } from './window';

/** Shape of a pooling of input 0 by the node's window attributes. */
export function inferPooling(context: InferContext): Shape {
  const attributes = windowAttributes(context.node);
  const { shape } = context.input(0);
  if (!shape) return undefined;
  checkSpatial(context, shape);
  return [shape[0], shape[1], ...inferWindow(context, attributes, shape.slice(2))];
}

/** Shape of a global pooling: every spatial size becomes 1. */
export function inferGlobalPooling(context: InferContext): Shape {
  const { shape } = context.input(0);
  if (!shape) return undefined;
  checkSpatial(context, shape);
  return shape.map((dim, i) => (i < 2 ? dim : 1));
}

function checkSpatial(context: InferContext, shape: readonly Dim[]): void {
  if (shape.length < 3 || shape.length > 5) {
    throw modelError(context.node, 'rank 3 to 5', 'input 0', `shape [${shape.join(', ')}]`);
  }
}

/**
 * Calls `visit` for every window of every plane with the indices of its taps inside the input (row-major order, into the
 * whole input) and the count of taps inside the padded input. `taps` is reused; only the first `count` entries are valid.
 */
export function forEachWindow(
  planes: number,
  window: Window,
  visit: (at: number, taps: Int32Array, count: number, paddedCount: number) => void,
): void {
  const { kernel, strides, dilations, padsBegin, padsEnd, input, output } = toSpatialRank(window, 3);
  const inPlane = sizeOf(input);
  const taps = new Int32Array(Math.min(sizeOf(kernel), inPlane));
  // Per axis: the first tap inside, one past the last, and how many lie inside the padded extent.
  const ranges = input.map((size, axis) =>
    Array.from({ length: output[axis] }, (_, o) => {
      const start = o * strides[axis] - padsBegin[axis];
      const d = dilations[axis];
      const first = Math.min(kernel[axis], Math.max(0, Math.ceil(-start / d)));
      const last = Math.max(first, Math.min(kernel[axis], Math.ceil((size - start) / d)));
      const padded = Math.min(kernel[axis], Math.ceil((size + padsEnd[axis] - start) / d));
      return { start, first, last, padded };
    }),
  );
  let at = 0;
  for (let plane = 0; plane < planes; plane++) {
    for (const z of ranges[0]) {
      for (const y of ranges[1]) {
        for (const x of ranges[2]) {
          let count = 0;
          for (let kz = z.first; kz < z.last; kz++) {
            for (let ky = y.first; ky < y.last; ky++) {
              const iz = z.start + kz * dilations[0];
              const iy = y.start + ky * dilations[1];
              const row = plane * inPlane + (iz * input[1] + iy) * input[2] + x.start;
              for (let kx = x.first; kx < x.last; kx++) taps[count++] = row + kx * dilations[2];
            }
          }
          visit(at++, taps, count, z.padded * y.padded * x.padded);
        }
      }
    }
  }
}

/**
 * Mean of each window; `round` is applied after every operation (Math.fround makes it the float32 recipe, summing taps in
 * row-major order; the identity leaves it in double).
 */
export function averagePool(
  x: ArrayLike<number>,
  planes: number,
  window: Window,
  countIncludePad: boolean,
  round: (value: number) => number,
): Float64Array {
  const out = new Float64Array(planes * sizeOf(window.output));
  forEachWindow(planes, window, (at, taps, count, paddedCount) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum = round(sum + x[taps[i]]);
    out[at] = round(sum / (countIncludePad ? paddedCount : count));
  });
  return out;
}
