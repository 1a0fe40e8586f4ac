/** Indices that come as data: negative ones count from the end, others must lie inside. */
import { expected } from '../../errors';
import type { Node } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import { integersOf } from './values';

/** A valid index into an axis of `size`. @throws ERR_Q8_INVALID_ARGUMENT when out of range. */
export function indexInto(node: Node, index: number, size: number): number {
  const at = index < 0 ? index + size : index;
  if (at >= 0 && at < size) return at;
  throw expected(`an index in [${-size}, ${size - 1}]`, `the indices of node "${node.name}" (${node.op})`, index, {
    node: node.name,
  });
}

/** All elements of an index tensor as valid indices into an axis of `size`. */
export function indicesInto(node: Node, indices: Tensor, size: number): Int32Array {
  return Int32Array.from(integersOf(indices), (index) => indexInto(node, index, size));
}
