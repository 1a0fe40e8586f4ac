/** Conv (ai.onnx 1, 11, 22): float convolution of [N, C, ...] with up to three spatial axes. */
import { defineOp } from './define-op';
import { CONV_TRAIT, convolutionWindow, convolve, groupOf, inferConvolution, planar } from './families/convolution';
import { clampRange, clampValues } from './families/clamp';
import { modelError } from './families/inference';
import { fromDoubles, toDoubles } from './families/values';
import { windowGeometry } from './families/window';

export const Conv = defineOp({
  type: 'Conv',
  since: [1, 11, 22],
  quant: CONV_TRAIT,
  inferShape: (context) => [{ dtype: context.input(0).dtype, shape: inferConvolution(context, 0, 1) }],
  run([x, w, bias], { node }) {
    const window = convolutionWindow(node, x!.dims, w!.dims);
    const { sums, dims } = convolve(toDoubles(x!), x!.dims, toDoubles(w!), w!.dims, groupOf(node), window);
    if (bias) {
      if (bias.size !== w!.dims[0]) throw modelError(node, `${w!.dims[0]} elements`, 'the bias', bias.size);
      const values = toDoubles(bias);
      const plane = sums.length / (dims[0] * dims[1] || 1);
      for (let i = 0; i < sums.length; i++) sums[i] += values[Math.floor(i / plane) % dims[1]];
    }
    clampValues(sums, clampRange(node));
    return [fromDoubles(x!.type, sums, dims)];
  },
  lower(context) {
    const { node } = context;
    const x = node.requiredInput(0);
    const w = context.constant(node.requiredInput(1));
    const biasValue = node.input(2);
    const bias = context.constant(biasValue);
    const shape = context.shape(x);
    if (context.dtype(x) !== 'float32' || w?.type !== 'float32' || (biasValue && !bias)) return false;
    const window = convolutionWindow(node, shape, w.dims);
    if (bias && bias.size !== w.dims[0]) throw modelError(node, `${w.dims[0]} elements`, 'the bias', bias.size);
    const group = groupOf(node);
    const weights = context.shared(w, `conv_f32/${group}`, () =>
      context.pack.packConvF32(w.data as Float32Array, planar(w.dims), group),
    );
    const source = context.slot(x, 'nhwc');
    const y = context.output(node.output, 'nhwc');
    context.emit({
      op: 'conv',
      x: source.id,
      y: y.id,
      weights,
      outChannels: w.dims[0],
      group,
      bias: (bias?.data as Float32Array | undefined) ?? null,
      ...clampRange(node),
      ...windowGeometry(window, shape[0], shape[1]),
    });
    return true;
  },
});
