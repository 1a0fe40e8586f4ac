/** Linear and cubic resizing as native steps, one per axis. */
import type { Layout, LowerContext } from '../define-op';
import { physicalAxis } from './lowering';
import { type ResizeAxis, type ResizeOptions, tapTable } from './resize';
import { split3 } from './strided';

/** Emits one step per axis, channels last for rank 3 and 4. False for extrapolation and for other types than float32. */
export function lowerInterpolated(context: LowerContext, axes: readonly ResizeAxis[], options: ResizeOptions): boolean {
  const { node } = context;
  const value = node.requiredInput(0);
  const rank = context.shape(value).length;
  if (context.dtype(value) !== 'float32') return false;
  const tables = axes.map((axis) => tapTable(node, axis, options));
  if (tables.includes(undefined)) return false;
  const layout: Layout = rank === 3 || rank === 4 ? 'nhwc' : 'row';
  let x = context.slot(value, layout);
  if (axes.length === 0) context.alias(node.output, x, layout);
  let shape = [...x.shape];
  for (const [i, { axis, output }] of axes.entries()) {
    const at = physicalAxis(axis, rank, layout);
    const [outer, axisSize, inner] = split3(shape, at);
    shape = shape.map((dim, j) => (j === at ? output : dim));
    const y = i === axes.length - 1 ? context.output(node.output, layout) : context.temporary('float32', shape);
    context.emit({ op: 'resample', x: x.id, y: y.id, outer, axisSize, inner, count: output, ...tables[i]! });
    x = y;
  }
  return true;
}
