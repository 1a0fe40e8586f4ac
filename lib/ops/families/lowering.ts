/**
 * What lower() functions share: axes and shapes in a physical layout, and operands of elementwise steps. NHWC is kept
 * through a network as long as every operand can be given in it; conversions are the compiler's, made once per value.
 */
import type { BufferDType } from '../../../binding';
import type { Value } from '../../graph/graph';
import { broadcastStrides, sizeOf, stridesOf } from '../../tensor/shape';
import type { Tensor } from '../../tensor/tensor';
import type { Layout, LowerContext, Slot } from '../define-op';
import { transpose } from './strided';

const remembered = new WeakMap<object, { from: readonly unknown[]; made: unknown }>();

/**
 * What `make` made of the objects `from` (and of nothing else) when it was last asked for `owner`. A model is bound to new
 * shapes with every length of a text; what depends on its constants only need not be computed again.
 */
export function remember<T>(owner: object, from: readonly unknown[], make: () => T): T {
  const found = remembered.get(owner);
  if (found && found.from.length === from.length && found.from.every((part, i) => part === from[i]))
    return found.made as T;
  const made = make();
  remembered.set(owner, { from, made });
  return made;
}

/** The physical axis that holds ONNX axis `axis`. */
export function physicalAxis(axis: number, rank: number, layout: Layout): number {
  if (layout === 'row' || axis === 0) return axis;
  return axis === 1 ? rank - 1 : axis - 1;
}

/** A shape (or any list per axis) in physical order. */
export function physicalOrder<T>(perAxis: readonly T[], layout: Layout): T[] {
  return layout === 'row' ? [...perAxis] : [perAxis[0], ...perAxis.slice(2), perAxis[1]];
}

/** Element strides of a value of ONNX `shape` stored in `layout`, listed in ONNX axis order. */
export function logicalStrides(shape: readonly number[], layout: Layout): number[] {
  const strides = stridesOf(physicalOrder(shape, layout));
  return shape.map((_, axis) => strides[physicalAxis(axis, shape.length, layout)]);
}

/** The layout in which a value should be read by an operator that does not care. */
export function existingLayout(context: LowerContext, value: Value): Layout {
  const layouts = context.layouts(value);
  return layouts.includes('nhwc') && !context.constant(value) ? 'nhwc' : 'row';
}

/** Whether values of that rank have a channels-last order: batches of rows, images and volumes. */
export function hasChannelsLast(rank: number): boolean {
  return rank >= 3 && rank <= 5;
}

/** Whether channels first and last order the elements of a shape in the same way. */
export function ordersCoincide(shape: readonly number[]): boolean {
  return hasChannelsLast(shape.length) && (shape[1] === 1 || sizeOf(shape.slice(2)) === 1);
}

/** The layout for an elementwise operator with broadcasting over `inputs`. */
export function broadcastLayout(context: LowerContext, inputs: readonly Value[], shape: readonly number[]): Layout {
  const rank = shape.length;
  if (!hasChannelsLast(rank)) return 'row';
  const fits = inputs.every((value) => {
    const own = context.shape(value);
    return own.length === rank || sizeOf(own) === 1 || context.constant(value) !== undefined;
  });
  const some = inputs.some((v) => context.shape(v).length === rank && existingLayout(context, v) === 'nhwc');
  return fits && some ? 'nhwc' : 'row';
}

/** An operand of an elementwise step: its slot in `layout` and its strides along the physical axes of `shape`. */
export function broadcastOperand(
  context: LowerContext,
  value: Value,
  shape: readonly number[],
  layout: Layout,
): { slot: Slot; strides: number[] } {
  const own = context.shape(value);
  if (sizeOf(own) === 1) {
    return { slot: context.slot(value, existingLayout(context, value)), strides: shape.map(() => 0) };
  }
  if (layout === 'row') return { slot: context.slot(value, 'row'), strides: broadcastStrides(own, shape) };
  const padded = [...new Array<number>(shape.length - own.length).fill(1), ...own];
  const constant = own.length < shape.length ? context.constant(value) : undefined;
  return {
    slot: constant ? context.constantSlot(toNhwc(constant.reshape(padded))) : context.slot(value, 'nhwc'),
    strides: broadcastStrides(physicalOrder(padded, 'nhwc'), physicalOrder(shape, 'nhwc')),
  };
}

/** A tensor of rank 3 to 5 with its channels moved last. */
export function toNhwc(tensor: Tensor): Tensor {
  return transpose(tensor, physicalOrder([...tensor.dims.keys()], 'nhwc'));
}

/** Whether moves (copy, concat, gather, pad) of this dtype exist natively: every fixed-size element. */
export function isNative(dtype: string): dtype is BufferDType {
  return dtype !== 'string';
}

/** The product of dims[from..to). */
export function extent(shape: readonly number[], from: number, to = shape.length): number {
  return sizeOf(shape.slice(from, to));
}
