/** Expand (ai.onnx 8, 13): broadcasting of the input with a shape. */
import { broadcastShapes, broadcastStrides } from '../tensor/shape';
import { defineOp } from './define-op';
import { broadcastDims } from './families/inference';
import { isNative } from './families/lowering';
import { stridedCopy } from './families/strided';
import { integersOf } from './families/values';

export const Expand = defineOp({
  type: 'Expand',
  since: [8, 13],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { dtype, shape } = context.input(0);
    const constant = context.constant(1);
    const target = constant ? integersOf(constant) : context.dims(1);
    return [{ dtype, shape: target && shape ? broadcastDims(context, [shape, target]) : undefined }];
  },
  run([x, target], { node }) {
    const shape = broadcastShapes([x!.dims, integersOf(target!)], `node "${node.name}" (${node.op})`);
    return [stridedCopy(x!, shape, broadcastStrides(x!.dims, shape))];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    if (!isNative(context.dtype(value))) return false;
    const shape = [...context.shape(node.output)];
    context.emit({
      op: 'strided_copy',
      x: context.slot(value, 'row').id,
      y: context.output(node.output, 'row').id,
      shape,
      strides: broadcastStrides(context.shape(value), shape),
      offset: 0,
    });
    return true;
  },
});
