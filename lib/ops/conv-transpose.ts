/** ConvTranspose (ai.onnx 1, 11, 22): the gradient of a convolution, of [N, C, ...] with up to three spatial axes. */
import type { Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { groupOf } from './families/convolution';
import { modelError } from './families/inference';
import {
  blockKey,
  gatherWeights,
  inferTransposed,
  lowerTransposed,
  transposedProducts,
} from './families/transposed-convolution';
import { fromDoubles, toDoubles } from './families/values';

/**
 * Weights are [C, M / group, ...]. Depthwise, the first axis is that of output channels, else the second, whose scales all
 * groups share.
 */
function channelAxis(node: Node): number {
  const group = groupOf(node);
  const [channels, perGroup] = node.requiredInput(1).constant?.dims ?? [];
  return group > 1 && channels === group && perGroup === 1 ? 0 : 1;
}

export const ConvTranspose = defineOp({
  type: 'ConvTranspose',
  since: [1, 11, 22],
  quant: { kind: 'compute', weight: 1, bias: 2, axis: channelAxis, floatOnly: () => true },
  inferShape: (context) => [{ dtype: context.input(0).dtype, shape: inferTransposed(context, 0, 1) }],
  run([x, w, bias], { node }) {
    const { sums, dims } = transposedProducts(node, toDoubles(x!), x!.dims, toDoubles(w!), w!.dims);
    if (bias) {
      if (bias.size !== dims[1]) throw modelError(node, `${dims[1]} elements`, 'the bias', bias.size);
      const values = toDoubles(bias);
      const plane = sizeOf(dims.slice(2));
      for (let i = 0; i < sums.length; i++) sums[i] += values[Math.floor(i / plane) % dims[1]];
    }
    return [fromDoubles(x!.type, sums, dims)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const w = context.constant(node.requiredInput(1));
    const biasValue = node.input(2);
    const bias = context.constant(biasValue)?.data as Float32Array | undefined;
    if (context.dtype(value) !== 'float32' || w?.type !== 'float32' || (biasValue && !bias)) return false;
    const channels = context.shape(node.output)[1];
    if (bias && bias.length !== channels) throw modelError(node, `${channels} elements`, 'the bias', bias.length);
    return lowerTransposed(context, value, w.dims, (convolution, x, y) => {
      const { dims, channel, geometry } = convolution;
      const group = groupOf(node);
      const weights = context.shared(w, blockKey(node, convolution), () =>
        context.pack.packConvF32(gatherWeights(convolution, w.data as Float32Array, [0]), dims, group),
      );
      context.emit({
        op: 'conv',
        x,
        y,
        weights,
        outChannels: dims[0],
        group,
        bias: bias ? Float32Array.from(channel, (c) => bias[c]) : null,
        min: Number.NEGATIVE_INFINITY,
        max: Number.POSITIVE_INFINITY,
        ...geometry,
      });
    });
  },
});
