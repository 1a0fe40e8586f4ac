/** Nearest-neighbour resizing: gathers along axes, of any dtype. */
import type { Node } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { Layout, LowerContext } from '../define-op';
import { isNative, physicalAxis } from './lowering';
import { nearestIndices, type ResizeAxis, type ResizeOptions } from './resize';
import { pickAlong, split3 } from './strided';
import { isBigInt } from './values';

/** Resizes a tensor of any numeric dtype. */
export function nearest(node: Node, x: Tensor, axes: readonly ResizeAxis[], options: ResizeOptions): Tensor {
  const fill = isBigInt(x.type) ? BigInt(Math.trunc(options.extrapolation)) : options.extrapolation;
  return axes.reduce<Tensor>((y, axis) => pickAlong(y, axis.axis, nearestIndices(node, axis, options), fill), x);
}

/** Emits one gather per axis, channels last for rank 3 and 4. False for extrapolation. */
export function lowerNearest(context: LowerContext, axes: readonly ResizeAxis[], options: ResizeOptions): boolean {
  const { node } = context;
  const value = node.requiredInput(0);
  const dtype = context.dtype(value);
  const rank = context.shape(value).length;
  const picks = axes.map((axis) => nearestIndices(node, axis, options));
  if (!isNative(dtype) || picks.some((indices) => indices.includes(-1))) return false;
  const layout: Layout = rank === 3 || rank === 4 ? 'nhwc' : 'row';
  let x = context.slot(value, layout);
  if (axes.length === 0) context.alias(node.output, x, layout);
  let shape = [...x.shape];
  for (const [i, { axis }] of axes.entries()) {
    const at = physicalAxis(axis, rank, layout);
    const [outer, axisSize, inner] = split3(shape, at);
    shape = shape.map((dim, j) => (j === at ? picks[i].length : dim));
    const y = i === axes.length - 1 ? context.output(node.output, layout) : context.temporary(dtype, shape);
    context.emit({ op: 'gather', x: x.id, y: y.id, outer, axisSize, inner, indices: picks[i] });
    x = y;
  }
  return true;
}
