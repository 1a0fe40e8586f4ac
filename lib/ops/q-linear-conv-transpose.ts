/**
 * QLinearConvTranspose (ai.q8 1): transposed convolution of codes, exact in int32, requantized; what fuse-qdq makes of a
 * ConvTranspose between Q/DQ pairs. Inputs: those of QLinearConv, with w [C, M/group, ...]. Scales and zero points of w are
 * one for all, or one per output channel. Attributes of ConvTranspose. Inside sessions only, never in files.
 */
import type { Codes } from '../../binding';
import { codeRange } from '../tensor/dtype';
import { defineOp } from './define-op';
import { centered, checkChannels, groupOf, requantizeChannels } from './families/convolution';
import { checkType, modelError } from './families/inference';
import { constantQuantization, quantizationOf, requantizeMultipliers, spread } from './families/quantization';
import {
  blockKey,
  gatherWeights,
  inferTransposed,
  lowerTransposed,
  transposedProducts,
} from './families/transposed-convolution';
import { toDoubles } from './families/values';

export const QLinearConvTranspose = defineOp({
  type: 'QLinearConvTranspose',
  domain: 'ai.q8',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 3, 'uint8', 'int8');
    return [{ dtype: checkType(context, 7, 'uint8', 'int8'), shape: inferTransposed(context, 0, 3) }];
  },
  run([x, xScale, xZero, w, wScale, wZero, yScale, yZero, bias], { node }) {
    const y = quantizationOf(node, 'y', yScale, yZero, yZero!.type);
    const { scale } = quantizationOf(node, 'x', xScale, xZero, x!.type);
    const weights = toDoubles(w!);
    const perGroup = w!.dims[1];
    const group = groupOf(node);
    const zeros = spread(node, 'the zero point of w', wZero, perGroup * group);
    const perChannel = weights.length / (w!.dims[0] * perGroup || 1);
    const depth = w!.dims[0] / group;
    for (let i = 0; i < weights.length; i++) {
      const at = Math.floor(i / perChannel);
      weights[i] -= zeros[Math.floor(at / perGroup / depth) * perGroup + (at % perGroup)];
    }
    const codes = centered(node, x!, xZero ?? null, 'the zero point of x');
    const products = transposedProducts(node, codes, x!.dims, weights, w!.dims);
    for (let i = 0; i < products.sums.length; i++) products.sums[i] |= 0;
    const multipliers = requantizeMultipliers(scale, toDoubles(wScale!), y.scale);
    return [requantizeChannels(node, products, multipliers, bias, y)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const x = constantQuantization(context, 'x', 1, context.dtype(value));
    const y = constantQuantization(context, 'y', 6, context.dtype(node.output));
    const w = context.constant(node.requiredInput(3));
    const wScale = context.constant(node.requiredInput(4));
    const zeroPoint = context.constant(node.input(5))?.data as Codes | undefined;
    const bias = context.constant(node.input(8))?.data as Int32Array | undefined;
    if (!x || !y || !w || !wScale || (node.input(5) && !zeroPoint) || (node.input(8) && !bias)) return false;
    const channels = context.shape(node.output)[1];
    checkChannels(node, 'the scale of w', wScale.size, channels);
    if (zeroPoint) checkChannels(node, 'the zero point of w', zeroPoint.length, channels);
    if (bias && bias.length !== channels) throw modelError(node, `${channels} elements`, 'the bias', bias.length);
    const zeros = zeroPoint?.some((z) => z !== 0) ? zeroPoint : undefined;
    const multipliers = requantizeMultipliers(x.scale, wScale.data as Float32Array, y.scale);
    const [min, max] = codeRange(y.dtype);
    return lowerTransposed(context, value, w.dims, (convolution, from, to) => {
      const { dims, channel, geometry } = convolution;
      const group = groupOf(node);
      const perOutput = <T extends Float32Array | Int32Array | Codes>(values: T): T =>
        values.length === 1 ? values : ((values.constructor as typeof Int32Array).from(channel, (c) => values[c]) as T);
      const key = `${blockKey(node, convolution)}/${zeros?.join() ?? ''}`;
      const weights = context.shared(w, key, () => {
        const codes = gatherWeights(convolution, w.data as Codes, zeros ?? [0]);
        return context.pack.packConv(codes, dims, group, zeros ? perOutput(zeros) : null);
      });
      const output = {
        kind: 'requantize' as const,
        multiplier: perOutput(multipliers),
        bias: bias ? Int32Array.from(channel, (c) => bias[c]) : null,
        zeroPoint: y.zeroPoint,
        min,
        max,
      };
      const { zeroPoint: xZeroPoint } = x;
      context.emit({
        op: 'qconv',
        x: from,
        y: to,
        weights,
        xZeroPoint,
        outChannels: dims[0],
        group,
        output,
        ...geometry,
      });
    });
  },
});
