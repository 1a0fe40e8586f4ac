/** Indices of several axes at once: the last axis of an index tensor holds one index per axis of the data. */
import type { Node } from '../../graph/graph';
import { sizeOf, stridesOf } from '../../tensor/shape';
import type { Tensor } from '../../tensor/tensor';
import { modelError } from './inference';
import { indexInto } from './indices';
import { integersOf } from './values';

/**
 * Element offsets of the slices that index tuples name. The first `batchDims` axes of data and indices run in parallel.
 * `slice` is how many elements each names.
 */
export function tupleOffsets(
  node: Node,
  dims: readonly number[],
  indices: Tensor,
  batchDims: number,
): { offsets: Float64Array; slice: number } {
  const depth = indices.dims[indices.dims.length - 1] ?? 0;
  const first = batchDims;
  const agree = dims.slice(0, batchDims).every((dim, i) => dim === indices.dims[i]);
  if (indices.dims.length <= batchDims || depth + first > dims.length || !agree) {
    throw modelError(node, `indices that fit data of shape [${dims.join(', ')}]`, 'the indices', indices.dims);
  }
  const values = integersOf(indices);
  const strides = stridesOf(dims);
  const count = sizeOf(indices.dims.slice(0, -1));
  const perBatch = count / Math.max(1, sizeOf(dims.slice(0, batchDims)));
  const batchSize = sizeOf(dims.slice(batchDims));
  const offsets = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let at = Math.floor(i / perBatch) * batchSize;
    for (let d = 0; d < depth; d++) at += indexInto(node, values[i * depth + d], dims[first + d]) * strides[first + d];
    offsets[i] = at;
  }
  return { offsets, slice: sizeOf(dims.slice(first + depth)) };
}
