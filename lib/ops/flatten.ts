/** Flatten (ai.onnx 1, 9, 11, 13, 21): to a matrix; `axis` is the first one of the columns. */
import type { Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import { modelError, productOf } from './families/inference';
import { defineView } from './families/views';

/** Axis in 0..rank, rank included. */
function splitAxis(node: Node, rank: number): number {
  const axis = node.attributes.int('axis', 1);
  const at = axis < 0 ? axis + rank : axis;
  if (at < 0 || at > rank) throw modelError(node, `an axis in [${-rank}, ${rank}]`, 'axis', axis);
  return at;
}

export const Flatten = defineView({
  type: 'Flatten',
  since: [1, 9, 11, 13, 21],
  infer(context, shape) {
    const axis = splitAxis(context.node, shape.length);
    return [productOf(context, shape.slice(0, axis)), productOf(context, shape.slice(axis))];
  },
  reshape(node, _opset, dims) {
    const axis = splitAxis(node, dims.length);
    return [sizeOf(dims.slice(0, axis)), sizeOf(dims.slice(axis))];
  },
});
