/** QLinearSoftmax (com.microsoft 1): dequantize, Softmax in the meaning of attribute `opset`, quantize. */
import type { Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { axisOf, checkType, modelError, shapeAs } from './families/inference';
import { existingLayout, physicalAxis, physicalOrder } from './families/lowering';
import { constantQuantization, dequantizeTensor, quantizationOf, quantizeTensor } from './families/quantization';
import { softmax, softmaxView } from './families/softmax';
import { split3 } from './families/strided';

function softmaxOptions(node: Node): { axis: number; opset: number } {
  const opset = node.attributes.int('opset');
  if (opset === undefined) throw modelError(node, 'an integer', 'opset', 'nothing');
  return { axis: node.attributes.int('axis', opset < 13 ? 1 : -1), opset };
}

export const QLinearSoftmax = defineOp({
  type: 'QLinearSoftmax',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    const dtype = checkType(context, 0, 'uint8', 'int8');
    const { axis } = softmaxOptions(context.node);
    const { shape } = context.input(0);
    if (shape && shape.length > 0) axisOf(context.node, axis, shape.length);
    return [shapeAs(context, context.optionalInput(4)?.dtype ?? dtype)];
  },
  run([x, xScale, xZero, yScale, yZero], { node }) {
    const { axis, opset } = softmaxOptions(node);
    const from = quantizationOf(node, 'X', xScale, xZero, x!.type);
    const to = quantizationOf(node, 'Y', yScale, yZero, yZero?.type ?? x!.type);
    const values = softmax(Float64Array.from(dequantizeTensor(x!, from)), softmaxView(node, x!.dims, axis, opset));
    return [quantizeTensor(Float32Array.from(values), x!.dims, to)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    const from = constantQuantization(context, 'X', 1, context.dtype(value));
    const to = constantQuantization(context, 'Y', 3, context.dtype(node.output));
    if (!from || !to || shape.length === 0) return false;
    const { axis, opset } = softmaxOptions(node);
    const layout = opset < 13 ? 'row' : existingLayout(context, value);
    const physical = physicalOrder(shape, layout);
    const [outer, axisSize, inner] =
      opset < 13
        ? softmaxView(node, shape, axis, opset)
        : split3(physical, physicalAxis(axisOf(node, axis, shape.length), shape.length, layout));
    const x = opset < 13 ? context.slot(value, 'row') : context.slot(value, layout);
    const real = context.temporary('float32', physical);
    const normalized = context.temporary('float32', physical);
    const y = context.output(node.output, layout);
    const whole = { outer: 1, axisSize: 1, inner: sizeOf(shape) };
    const parameters = (q: { scale: number; zeroPoint: number }) => ({
      scale: Float32Array.of(q.scale),
      zeroPoint: Int32Array.of(q.zeroPoint),
    });
    context.emit({ op: 'dequantize', x: x.id, y: real.id, ...parameters(from), ...whole });
    context.emit({ op: 'softmax', x: real.id, y: normalized.id, outer, axisSize, inner, guarded: false });
    context.emit({ op: 'quantize', x: normalized.id, y: y.id, ...parameters(to), ...whole });
    return true;
  },
});
