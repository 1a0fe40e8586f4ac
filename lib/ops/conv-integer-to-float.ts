/**
 * ConvIntegerToFloat (ai.q8 1): fl(fl(float(acc) * fl(x_scale * w_scale[m])) + bias[m]), what dynamic quantization makes of
 * a convolution in four nodes. Inputs: x, w, x_scale, w_scale (1 or M), x_zp?, w_zp?, bias? (float[M]). Attributes of
 * ConvInteger. Inside sessions only, never in files.
 */
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { convolveCodes, inferConvolution, lowerQConv } from './families/convolution';
import { checkType } from './families/inference';
import { spread } from './families/quantization';
import { inputParameters } from './families/run-time-input';
import { scalarOf } from './families/values';

const { fround } = Math;

export const ConvIntegerToFloat = defineOp({
  type: 'ConvIntegerToFloat',
  domain: 'ai.q8',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 1, 'uint8', 'int8');
    return [{ dtype: 'float32', shape: inferConvolution(context, 0, 1) }];
  },
  run([x, w, xScale, wScale, xZero, wZero, bias], { node }) {
    const { sums, dims } = convolveCodes(node, x!, xZero ?? null, w!, wZero ?? null);
    const scales = spread(node, 'the scale of w', wScale, dims[1]).map((scale) => fround(scalarOf(xScale!) * scale));
    const offsets = bias && spread(node, 'the bias', bias, dims[1]);
    const plane = sizeOf(dims.slice(2));
    const out = new Float32Array(sums.length);
    for (let i = 0; i < out.length; i++) {
      const channel = Math.floor(i / plane) % dims[1];
      const product = fround(fround(sums[i]) * scales[channel]);
      out[i] = offsets ? product + offsets[channel] : product;
    }
    return [new Tensor('float32', out, dims)];
  },
  lower(context) {
    const { node } = context;
    const [x, w, xScale, wScaleValue] = [0, 1, 2, 3].map((i) => node.requiredInput(i));
    const biasValue = node.input(6);
    const [wScale, bias] = [context.constant(wScaleValue), context.constant(biasValue)];
    if (!wScale || (biasValue && !bias)) return false;
    const channels = context.shape(w)[0];
    const parameters = inputParameters(context, x, xScale, node.input(4));
    if (parameters === undefined) return false;
    let scale = Float32Array.from(spread(node, 'the scale of w', wScale, channels));
    if (typeof parameters === 'number') {
      const factor = scalarOf(context.constant(xScale)!);
      scale = scale.map((s) => factor * s);
    }
    const output = { kind: 'dequantize', scale, bias: (bias?.data as Float32Array | undefined) ?? null } as const;
    return lowerQConv(context, { x: 0, w: 1, wZeroPoint: 5 }, parameters, output);
  },
});
