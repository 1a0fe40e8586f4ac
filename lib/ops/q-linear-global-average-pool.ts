/**
 * QLinearGlobalAveragePool (com.microsoft 1): the exact int32 sum of centered codes of a channel, requantized by
 * fl(x_scale / fl(y_scale * count)). Inputs: X, x_scale, x_zp, y_scale, y_zp.
 */
import { allocate, codeRange, type DType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { checkType } from './families/inference';
import { inferGlobalPooling } from './families/pooling';
import { constantQuantization, quantizationOf, requantizeCode } from './families/quantization';
import { refuseChannelsLast } from './q-linear-average-pool';

const { fround } = Math;

function multiplierOf(xScale: number, yScale: number, count: number): number {
  return fround(xScale / fround(yScale * fround(count)));
}

export const QLinearGlobalAveragePool = defineOp({
  type: 'QLinearGlobalAveragePool',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    refuseChannelsLast(context.node);
    const dtype = checkType(context, 0, 'uint8', 'int8');
    return [{ dtype: context.optionalInput(4)?.dtype ?? dtype, shape: inferGlobalPooling(context) }];
  },
  run([x, xScale, xZero, yScale, yZero], { node }) {
    const from = quantizationOf(node, 'X', xScale, xZero, x!.type);
    const to = quantizationOf(node, 'Y', yScale, yZero, yZero?.type ?? x!.type);
    const codes = x!.data as Uint8Array;
    const count = sizeOf(x!.dims.slice(2));
    const multiplier = multiplierOf(from.scale, to.scale, count);
    const [min, max] = codeRange(to.dtype);
    const out = allocate(to.dtype, x!.dims[0] * x!.dims[1]);
    for (let plane = 0; plane < out.length; plane++) {
      let sum = -count * from.zeroPoint;
      for (let i = 0; i < count; i++) sum += codes[plane * count + i];
      out[plane] = requantizeCode(sum | 0, multiplier, to.zeroPoint, min, max);
    }
    return [
      new Tensor<DType>(
        to.dtype,
        out,
        x!.dims.map((dim, i) => (i < 2 ? dim : 1)),
      ),
    ];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    const from = constantQuantization(context, 'X', 1, context.dtype(value));
    const to = constantQuantization(context, 'Y', 3, context.dtype(node.output));
    if (!from || !to) return false;
    const spatial = sizeOf(shape.slice(2));
    const x = context.slot(value, 'nhwc');
    const y = context.output(node.output, 'nhwc');
    context.emit({
      op: 'qglobal_average_pool',
      x: x.id,
      y: y.id,
      batch: shape[0],
      spatial,
      channels: shape[1],
      xZeroPoint: from.zeroPoint,
      multiplier: multiplierOf(from.scale, to.scale, spatial),
      yZeroPoint: to.zeroPoint,
    });
    return true;
  },
});
