/** Which scale belongs to which element: per tensor, per axis or per block of an axis (QuantizeLinear, DequantizeLinear). */
import type { Node } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import { axisOf, modelError } from './inference';
import { split3 } from './strided';

/** Calls `visit(element, parameter)` for every element of a tensor of `dims` with the index of its scale. */
export function forEachScaled(
  node: Node,
  dims: readonly number[],
  scale: Tensor,
  visit: (element: number, parameter: number) => void,
): void {
  const block = node.attributes.int('block_size', 0);
  if (scale.size === 1 && block === 0) {
    const total = dims.reduce((product, dim) => product * dim, 1);
    for (let i = 0; i < total; i++) visit(i, 0);
    return;
  }
  const axis = axisOf(node, node.attributes.int('axis', 1), dims.length);
  const [outer, size, inner] = split3(dims, axis);
  if (block === 0) {
    if (scale.dims.length !== 1 || scale.size !== size) {
      throw modelError(node, `1 or ${size} elements`, 'the scale', `shape [${scale.dims.join(', ')}]`);
    }
    for (let o = 0, at = 0; o < outer; o++) {
      for (let i = 0; i < size; i++) for (let j = 0; j < inner; j++) visit(at++, i);
    }
    return;
  }
  const blocks = Math.ceil(size / block);
  const wanted = dims.map((dim, i) => (i === axis ? blocks : dim));
  if (block < 0 || scale.dims.join() !== wanted.join()) {
    throw modelError(
      node,
      `shape [${wanted.join(', ')}] (block_size ${block})`,
      'the scale',
      `shape [${scale.dims.join(', ')}]`,
    );
  }
  for (let o = 0, at = 0; o < outer; o++) {
    for (let i = 0; i < size; i++) {
      const row = (o * blocks + Math.floor(i / block)) * inner;
      for (let j = 0; j < inner; j++) visit(at++, row + j);
    }
  }
}
