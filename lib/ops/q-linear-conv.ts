/**
 * QLinearConv (ai.onnx 10; com.microsoft 1): convolution of codes, exact in int32, requantized. Inputs: x, x_scale, x_zp,
 * w, w_scale, w_zp, y_scale, y_zp, bias (int32). Scales and zero points of w may be per output channel.
 */
import { codeRange } from '../tensor/dtype';
import { defineOp, type OpDefinition } from './define-op';
import { checkChannels, convolveCodes, inferConvolution, lowerQConv, requantizeChannels } from './families/convolution';
import { checkType, modelError } from './families/inference';
import { remember } from './families/lowering';
import { constantQuantization, quantizationOf, requantizeMultipliers } from './families/quantization';
import { toDoubles } from './families/values';

export const QLinearConv = defineOp({
  type: 'QLinearConv',
  since: [10],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 3, 'uint8', 'int8');
    return [{ dtype: checkType(context, 7, 'uint8', 'int8'), shape: inferConvolution(context, 0, 3) }];
  },
  run([x, xScale, xZero, w, wScale, wZero, yScale, yZero, bias], { node }) {
    const y = quantizationOf(node, 'y', yScale, yZero, yZero!.type);
    const { scale } = quantizationOf(node, 'x', xScale, xZero, x!.type);
    const products = convolveCodes(node, x!, xZero, w!, wZero);
    const multipliers = requantizeMultipliers(scale, toDoubles(wScale!), y.scale);
    return [requantizeChannels(node, products, multipliers, bias, y)];
  },
  lower(context) {
    const { node } = context;
    const x = constantQuantization(context, 'x', 1, context.dtype(node.requiredInput(0)));
    const y = constantQuantization(context, 'y', 6, context.dtype(node.output));
    const wScale = context.constant(node.requiredInput(4));
    const biasValue = node.input(8);
    const bias = context.constant(biasValue);
    if (!x || !y || !wScale || (biasValue && !bias)) return false;
    const channels = context.shape(node.output)[1];
    checkChannels(node, 'the scale of w', wScale.size, channels);
    if (bias && bias.size !== channels) throw modelError(node, `${channels} elements`, 'the bias', bias.size);
    const [min, max] = codeRange(y.dtype);
    return lowerQConv(context, { x: 0, w: 3, wZeroPoint: 5 }, x.zeroPoint, {
      kind: 'requantize',
      multiplier: remember(wScale, [x.scale, y.scale], () =>
        requantizeMultipliers(x.scale, wScale.data as Float32Array, y.scale),
      ),
      bias: (bias?.data as Int32Array | undefined) ?? null,
      zeroPoint: y.zeroPoint,
      min,
      max,
    });
  },
});

/** The contributed twin; its channels_last form is made by another runtime's optimizer and is not a file format. */
export const MicrosoftQLinearConv: OpDefinition = {
  ...QLinearConv,
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    if (context.node.attributes.int('channels_last', 0) !== 0) {
      throw modelError(context.node, '0', 'channels_last', 1, 'save the model without layout optimizations.');
    }
    return QLinearConv.inferShape(context);
  },
};
