/** Slice (ai.onnx 1, 10, 11, 13): ranges with steps along axes; from attributes before opset 10, from inputs since. */
import type { Dim, Node } from '../graph/graph';
import { stridesOf } from '../tensor/shape';
import { defineOp, type InferContext } from './define-op';
import { axesOf, axisOf, modelError, smallerOf, unknownShape } from './families/inference';
import { existingLayout, isNative, logicalStrides, physicalOrder } from './families/lowering';
import { stridedCopy } from './families/strided';
import { integersOf } from './families/values';
import type { Tensor } from '../tensor/tensor';

interface Ranges {
  starts: number[];
  ends: number[];
  axes: number[];
  steps: number[];
}

/** One range per sliced axis. Undefined when an input that defines them is computed at run time. */
function rangesOf(
  node: Node,
  opset: number,
  rank: number,
  input: (index: number) => Tensor | null | undefined,
): Ranges | undefined {
  const list = (name: string, index: number): number[] | undefined => {
    if (opset < 10) return node.attributes.ints(name);
    const tensor = input(index);
    return tensor ? integersOf(tensor) : undefined;
  };
  const computed = opset >= 10 && [1, 2, 3, 4].some((i) => node.input(i) && !input(i));
  if (computed) return undefined;
  const starts = list('starts', 1);
  const ends = list('ends', 2);
  if (!starts || !ends) throw modelError(node, 'lists', 'starts and ends', 'nothing');
  const axes = list('axes', 3) ?? [...starts.keys()];
  const steps = list('steps', 4) ?? starts.map(() => 1);
  if (ends.length !== starts.length || axes.length !== starts.length || steps.length !== starts.length) {
    throw modelError(
      node,
      'equal lengths',
      'starts, ends, axes and steps',
      [starts, ends, axes, steps].map((l) => l.length),
    );
  }
  if (steps.includes(0)) throw modelError(node, 'steps other than 0', 'steps', steps);
  axesOf(node, axes, rank);
  return { starts, ends, axes: axes.map((axis) => axisOf(node, axis, rank)), steps };
}

/** First index and count of a range over `size` elements, clamped as numpy does. */
function resolveRange(start: number, end: number, step: number, size: number): { first: number; count: number } {
  const clamp = (v: number, low: number, high: number): number => Math.max(low, Math.min(high, v < 0 ? v + size : v));
  const first = step > 0 ? clamp(start, 0, size) : clamp(start, 0, size - 1);
  const last = step > 0 ? clamp(end, 0, size) : clamp(end, -1, size - 1);
  return { first, count: size === 0 ? 0 : Math.max(0, Math.ceil((last - first) / step)) };
}

/** The slice as a strided copy, in ONNX axis order. */
function view(
  shape: readonly number[],
  strides: readonly number[],
  ranges: Ranges,
): { shape: number[]; strides: number[]; offset: number } {
  const out = { shape: [...shape], strides: [...strides], offset: 0 };
  for (const [i, axis] of ranges.axes.entries()) {
    const { first, count } = resolveRange(ranges.starts[i], ranges.ends[i], ranges.steps[i], shape[axis]);
    out.shape[axis] = count;
    if (count > 0) out.offset += first * strides[axis];
    out.strides[axis] = strides[axis] * ranges.steps[i];
  }
  return out;
}

/** The shape when ranges are computed: other axes keep their size, and so many from the start of one are told by name. */
function computedRanges(context: InferContext, shape: readonly Dim[]): Dim[] {
  const { node } = context;
  const [axesInput, steps] = [context.constant(3), context.constant(4)];
  if (!axesInput && node.input(3)) return unknownShape(context, shape.length);
  const given = context.input(1).shape?.[0];
  if (!axesInput && typeof given !== 'number') return unknownShape(context, shape.length);
  const axes = axesInput ? integersOf(axesInput) : Array.from({ length: given as number }, (_, i) => i);
  const result = [...shape];
  for (const axis of axes) result[axisOf(node, axis, shape.length)] = context.unknownDim();
  const start = context.constant(1);
  const isPrefix =
    axes.length === 1 &&
    (!node.input(4) || (steps && integersOf(steps)[0] === 1)) &&
    start !== undefined &&
    integersOf(start)[0] === 0;
  if (!isPrefix) return result;
  const axis = axisOf(node, axes[0], shape.length);
  const [size, end] = [shape[axis], context.dims(2)?.[0]];
  if (end === size) result[axis] = size;
  else if (typeof size === 'number' && typeof end === 'string') result[axis] = smallerOf(size, end);
  return result;
}

export const Slice = defineOp({
  type: 'Slice',
  since: [1, 10, 11, 13],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { node, opset } = context;
    const { dtype, shape } = context.input(0);
    if (!shape) return [{ dtype }];
    const ranges = rangesOf(node, opset, shape.length, (i) => context.constant(i));
    if (!ranges) return [{ dtype, shape: computedRanges(context, shape) }];
    const result = [...shape];
    for (const [i, axis] of ranges.axes.entries()) {
      const dim = shape[axis];
      if (typeof dim === 'number') {
        result[axis] = resolveRange(ranges.starts[i], ranges.ends[i], ranges.steps[i], dim).count;
      } else if (ranges.starts[i] !== 0 || ranges.steps[i] !== 1 || ranges.ends[i] < 2 ** 31 - 1) {
        result[axis] = context.unknownDim();
      }
    }
    return [{ dtype, shape: result }];
  },
  run(inputs, { node, opset }) {
    const x = inputs[0]!;
    const ranges = rangesOf(node, opset, x.dims.length, (i) => inputs[i])!;
    const { shape, strides, offset } = view(x.dims, stridesOf(x.dims), ranges);
    return [stridedCopy(x, shape, strides, offset)];
  },
  lower(context) {
    const { node, opset } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    if (!isNative(context.dtype(value))) return false;
    const ranges = rangesOf(node, opset, shape.length, (i) => context.constant(node.input(i)));
    if (!ranges) return false;
    const layout = existingLayout(context, value);
    const slice = view(shape, logicalStrides(shape, layout), ranges);
    context.emit({
      op: 'strided_copy',
      x: context.slot(value, layout).id,
      y: context.output(node.output, layout).id,
      shape: physicalOrder(slice.shape, layout),
      strides: physicalOrder(slice.strides, layout),
      offset: slice.offset,
    });
    return true;
  },
});
