/** Transpose (ai.onnx 1, 13, 21): output axis i is input axis perm[i]; perm reverses the axes by default. */
import type { Node } from '../graph/graph';
import { defineOp } from './define-op';
import { modelError } from './families/inference';
import { existingLayout, hasChannelsLast, isNative, logicalStrides, physicalOrder } from './families/lowering';
import { transpose } from './families/strided';

function permutation(node: Node, rank: number): number[] {
  const perm = node.attributes.ints('perm') ?? [...new Array(rank).keys()].reverse();
  if (perm.length !== rank || new Set(perm).size !== rank || perm.some((axis) => axis < 0 || axis >= rank)) {
    throw modelError(node, `a permutation of 0..${rank - 1}`, 'perm', perm);
  }
  return perm;
}

export const Transpose = defineOp({
  type: 'Transpose',
  since: [1, 13, 21],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { dtype, shape } = context.input(0);
    return [{ dtype, shape: shape && permutation(context.node, shape.length).map((axis) => shape[axis]) }];
  },
  run: ([x], { node }) => [transpose(x!, permutation(node, x!.dims.length))],
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    const rank = shape.length;
    if (!isNative(context.dtype(value))) return false;
    const perm = permutation(node, rank);
    const layout = existingLayout(context, value);
    // The transpose between NCHW and NHWC only renames what lies in memory: no copy.
    if (hasChannelsLast(rank)) {
      const channelsLast = physicalOrder([...shape.keys()], 'nhwc').join();
      const channelsFirst = [0, rank - 1, ...shape.keys()]
        .slice(0, rank)
        .map((axis, i) => (i < 2 ? axis : i - 1))
        .join();
      if (layout === 'nhwc' && perm.join() === channelsLast) {
        context.alias(node.output, context.slot(value, 'nhwc'), 'row');
        return true;
      }
      if (layout === 'row' && perm.join() === channelsFirst) {
        context.alias(node.output, context.slot(value, 'row'), 'nhwc');
        return true;
      }
    }
    const strides = logicalStrides(shape, layout);
    context.emit({
      op: 'strided_copy',
      x: context.slot(value, layout).id,
      y: context.output(node.output, 'row').id,
      shape: perm.map((axis) => shape[axis]),
      strides: perm.map((axis) => strides[axis]),
      offset: 0,
    });
    return true;
  },
});
