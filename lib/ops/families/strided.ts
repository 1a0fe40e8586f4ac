/**
 * Walking tensors by strides: broadcasting, transposing, slicing, gathering along an axis. The loops visit rows (runs
 * along the last axis), so that index arithmetic is paid once per row.
 */
import { allocate, type DType } from '../../tensor/dtype';
import { sizeOf, stridesOf } from '../../tensor/shape';
import { Tensor } from '../../tensor/tensor';

/** Any storage, indexable. Reading and writing by index is the same for all of them. */
interface Cells {
  [index: number]: unknown;
  readonly length: number;
}

/**
 * Calls `visit(at, offsets)` for every row of `shape`, in order: `at` is the row's first element in row-major order, and
 * `offsets[k]` its offset under `strides[k]`. `offsets` is reused between calls. A scalar is one row of one element.
 */
export function forEachRow(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (at: number, offsets: readonly number[]) => void,
): void {
  const total = sizeOf(shape);
  if (total === 0) return;
  const length = shape[shape.length - 1] ?? 1;
  const outer = shape.slice(0, -1);
  const index = new Array<number>(outer.length).fill(0);
  const offsets = new Array<number>(strides.length).fill(0);
  for (let at = 0; at < total; at += length) {
    visit(at, offsets);
    for (let axis = outer.length - 1; axis >= 0; axis--) {
      index[axis]++;
      for (let k = 0; k < strides.length; k++) offsets[k] += strides[k][axis];
      if (index[axis] < outer[axis]) break;
      index[axis] = 0;
      for (let k = 0; k < strides.length; k++) offsets[k] -= strides[k][axis] * outer[axis];
    }
  }
}

/** y[i] = x[sum(i * strides) + offset] as a tensor of `shape`. */
export function stridedCopy(x: Tensor, shape: readonly number[], strides: readonly number[], offset = 0): Tensor {
  const from = x.data as Cells;
  const data = allocate(x.type, sizeOf(shape));
  const to = data as Cells;
  const length = shape[shape.length - 1] ?? 1;
  const step = strides[strides.length - 1] ?? 0;
  forEachRow(shape, [strides], (at, [row]) => {
    for (let i = 0, source = row + offset; i < length; i++, source += step) to[at + i] = from[source];
  });
  return new Tensor(x.type, data, shape);
}

/** Transposes: output axis i is input axis perm[i]. */
export function transpose(x: Tensor, perm: readonly number[]): Tensor {
  const strides = stridesOf(x.dims);
  return stridedCopy(
    x,
    perm.map((axis) => x.dims[axis]),
    perm.map((axis) => strides[axis]),
  );
}

/** x with `indices` picked along `axis`; -1 picks nothing and leaves `fill`. */
export function pickAlong(x: Tensor, axis: number, indices: ArrayLike<number>, fill?: number | bigint): Tensor {
  const shape = [...x.dims];
  shape[axis] = indices.length;
  const [outer, count, inner] = split3(x.dims, axis);
  const from = x.data as Cells;
  const data = allocate(x.type, sizeOf(shape));
  const to = data as Cells;
  for (let o = 0, at = 0; o < outer; o++) {
    for (let i = 0; i < indices.length; i++) {
      const row = (o * count + indices[i]) * inner;
      if (indices[i] >= 0) for (let j = 0; j < inner; j++) to[at++] = from[row + j];
      else for (let j = 0; j < inner; j++) to[at++] = fill;
    }
  }
  return new Tensor(x.type, data, shape);
}

/** Joins tensors of one dtype along `axis`. */
export function concat(dtype: DType, tensors: readonly Tensor[], axis: number): Tensor {
  const shape = [...tensors[0].dims];
  shape[axis] = tensors.reduce((sum, t) => sum + t.dims[axis], 0);
  const [outer] = split3(shape, axis);
  const data = allocate(dtype, sizeOf(shape));
  const to = data as Cells;
  const inners = tensors.map((t) => sizeOf(t.dims.slice(axis)));
  for (let o = 0, at = 0; o < outer; o++) {
    for (let k = 0; k < tensors.length; k++) {
      const from = tensors[k].data as Cells;
      for (let j = 0, source = o * inners[k]; j < inners[k]; j++) to[at++] = from[source++];
    }
  }
  return new Tensor(dtype, data, shape);
}

/** A shape as [outer, size of the axis, inner]. */
export function split3(shape: readonly number[], axis: number): [number, number, number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))];
}
