/** Shape (ai.onnx 1, 13, 15, 19, 21): the dimensions of the input, or of a range of its axes, as int64. */
import type { Node } from '../graph/graph';
import { defineOp } from './define-op';
import { int64Tensor } from './families/values';

/** The range [start, end) of axes, clamped. */
function axisRange(node: Node, rank: number): [number, number] {
  const clamp = (axis: number): number => Math.max(0, Math.min(rank, axis < 0 ? axis + rank : axis));
  return [clamp(node.attributes.int('start', 0)), clamp(node.attributes.int('end', rank))];
}

export const Shape = defineOp({
  type: 'Shape',
  since: [1, 13, 15, 19, 21],
  inferShape(context) {
    const { shape } = context.input(0);
    if (!shape) return [{ dtype: 'int64', shape: [context.unknownDim()] }];
    const [start, end] = axisRange(context.node, shape.length);
    return [{ dtype: 'int64', shape: [Math.max(0, end - start)] }];
  },
  run: ([x], { node }) => [int64Tensor(x!.dims.slice(...axisRange(node, x!.dims.length)))],
});
