/**
 * QLinearAveragePool (com.microsoft 1): dequantize, AveragePool with float32 sums in window order, quantize. Inputs: X,
 * x_scale, x_zp, y_scale, y_zp.
 */
import type { Node } from '../graph/graph';
import { defineOp } from './define-op';
import { checkType, modelError } from './families/inference';
import { averagePool, inferPooling } from './families/pooling';
import { constantQuantization, dequantizeTensor, quantizationOf, quantizeTensor } from './families/quantization';
import { endPads, resolveWindow, windowAttributes, windowGeometry } from './families/window';

/** The channels-last form is made by another runtime's optimizer and is not a file format. */
export function refuseChannelsLast(node: Node): void {
  if (node.attributes.int('channels_last', 0) === 0) return;
  throw modelError(node, '0', 'channels_last', 1, 'save the model without layout optimizations.');
}

export const QLinearAveragePool = defineOp({
  type: 'QLinearAveragePool',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    refuseChannelsLast(context.node);
    const dtype = checkType(context, 0, 'uint8', 'int8');
    return [{ dtype: context.optionalInput(4)?.dtype ?? dtype, shape: inferPooling(context) }];
  },
  run([x, xScale, xZero, yScale, yZero], { node }) {
    const from = quantizationOf(node, 'X', xScale, xZero, x!.type);
    const to = quantizationOf(node, 'Y', yScale, yZero, yZero?.type ?? x!.type);
    const window = resolveWindow(node, windowAttributes(node), x!.dims.slice(2));
    const [batch, channels] = x!.dims;
    const includePad = node.attributes.int('count_include_pad', 0) !== 0;
    const means = averagePool(dequantizeTensor(x!, from), batch * channels, window, includePad, Math.fround);
    return [quantizeTensor(Float32Array.from(means), [batch, channels, ...window.output], to)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    const from = constantQuantization(context, 'X', 1, context.dtype(value));
    const to = constantQuantization(context, 'Y', 3, context.dtype(node.output));
    if (!from || !to) return false;
    const window = resolveWindow(node, windowAttributes(node), shape.slice(2));
    const x = context.slot(value, 'nhwc');
    const y = context.output(node.output, 'nhwc');
    context.emit({
      op: 'qaverage_pool',
      x: x.id,
      y: y.id,
      xScale: from.scale,
      xZeroPoint: from.zeroPoint,
      yScale: to.scale,
      yZeroPoint: to.zeroPoint,
      countIncludePad: node.attributes.int('count_include_pad', 0) !== 0,
      ...endPads(window),
      ...windowGeometry(window, shape[0], shape[1]),
    });
    return true;
  },
});
