/** Shape arithmetic on concrete shapes: sizes, strides, broadcasting, axes. Symbolic dimensions live in lib/graph. */
import { Q8Error } from '../errors';

/** Number of elements; 1 for a scalar. @throws ERR_Q8_INVALID_ARGUMENT when it exceeds 2^53. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  if (!Number.isSafeInteger(size)) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Shape [${shape.join(', ')}] has too many elements.`);
  }
  return size;
}

/** Row-major strides in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

/** numpy broadcasting of any number of shapes. @throws ERR_Q8_SHAPE_MISMATCH with all shapes in the message. */
export function broadcastShapes(shapes: readonly (readonly number[])[], where: string): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const at = rank - shape.length + i;
      if (shape[i] === 1) continue;
      if (out[at] !== 1 && out[at] !== shape[i]) {
        throw new Q8Error(
          'ERR_Q8_SHAPE_MISMATCH',
          `Expected shapes that broadcast for ${where} but received ${shapes.map((s) => `[${s.join(', ')}]`).join(' and ')}.`,
        );
      }
      out[at] = shape[i];
    }
  }
  return out;
}

/** Strides (elements) for reading `shape` as if it had been broadcast to `to`: 0 along broadcast axes. */
export function broadcastStrides(shape: readonly number[], to: readonly number[]): number[] {
  const own = stridesOf(shape);
  const lead = to.length - shape.length;
  return to.map((dim, i) => (i < lead || (shape[i - lead] === 1 && dim !== 1) ? 0 : own[i - lead]));
}

/** Axis in 0..rank-1 from an ONNX axis that may be negative. @throws ERR_Q8_BAD_MODEL when out of range. */
export function normalizeAxis(axis: number, rank: number, where: string): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= Math.max(rank, 1)) {
    throw new Q8Error(
      'ERR_Q8_BAD_MODEL',
      `Expected an axis in [${-rank}, ${rank - 1}] for ${where} but received ${axis}.`,
    );
  }
  return at;
}
