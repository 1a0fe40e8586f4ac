/** ConvTranspose (ai.onnx 1, 11, 22): the gradient of a convolution, of [N, C, ...] with up to three spatial axes. */
import type { Dim, Node } from '../graph/graph';
import { sizeOf, stridesOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { groupOf } from './families/convolution';
import { modelError } from './families/inference';
import { transpose } from './families/strided';
import { fromDoubles, toDoubles } from './families/values';
import { toSpatialRank, type Window, windowAttributes } from './families/window';

/** The window whose `input` and `output` are those of the transposed convolution: input is the smaller one. */
function transposedWindow(node: Node, input: readonly number[], kernel: readonly number[]): Window {
  const attributes = windowAttributes(node, kernel);
  const { strides, dilations, autoPad } = attributes;
  const rank = kernel.length;
  if (input.length !== rank) throw modelError(node, `${rank} spatial dimensions`, 'input 0', input.length);
  const list = (name: string): number[] | undefined => {
    const values = node.attributes.ints(name);
    if (!values || values.length === 0) return undefined;
    if (values.length !== rank || values.some((v) => v < 0))
      throw modelError(node, `${rank} integers >= 0`, name, values);
    return values;
  };
  const extra = list('output_padding') ?? new Array<number>(rank).fill(0);
  const wanted = list('output_shape');
  const padsBegin = [...attributes.padsBegin];
  const padsEnd = [...attributes.padsEnd];
  const output = input.map((size, i) => {
    const full = strides[i] * (size - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1;
    const isSame = autoPad === 'SAME_UPPER' || autoPad === 'SAME_LOWER';
    if (wanted || isSame) {
      const out = wanted ? wanted[i] : size * strides[i];
      const total = Math.max(0, full - out);
      padsBegin[i] = autoPad === 'SAME_UPPER' ? total >> 1 : total - (total >> 1);
      padsEnd[i] = total - padsBegin[i];
      return out;
    }
    return full - padsBegin[i] - padsEnd[i];
  });
  if (output.some((size) => size < 1)) throw modelError(node, 'a positive output size', 'the spatial axes', output);
  return { kernel: [...kernel], strides, dilations, padsBegin, padsEnd, input: [...input], output };
}

function checkShapes(node: Node, x: readonly Dim[], w: readonly Dim[]): void {
  const shapes = `shapes [${x.join(', ')}] and [${w.join(', ')}]`;
  if (x.length !== w.length || x.length < 3 || x.length > 5)
    throw modelError(node, 'equal ranks 3 to 5', 'input and weights', shapes);
  const group = groupOf(node);
  const channels = w[0];
  if (typeof channels !== 'number' || typeof x[1] !== 'number') return;
  if (x[1] !== channels || channels % group !== 0)
    throw modelError(node, `equal channels divisible by group ${group}`, 'input and weights', shapes);
}

export const ConvTranspose = defineOp({
  type: 'ConvTranspose',
  since: [1, 11, 22],
  inferShape(context) {
    const { node } = context;
    const { dtype, shape } = context.input(0);
    const w = context.input(1).shape;
    if (!shape || !w) return [{ dtype }];
    checkShapes(node, shape, w);
    const kernel = w.slice(2);
    const channels = typeof w[1] === 'number' ? w[1] * groupOf(node) : context.unknownDim();
    const concrete = [...shape.slice(2), ...kernel].every((dim) => typeof dim === 'number');
    const spatial = concrete
      ? transposedWindow(node, shape.slice(2) as number[], kernel as number[]).output
      : kernel.map(() => context.unknownDim());
    return [{ dtype, shape: [shape[0], channels, ...spatial] }];
  },
  run([x, w, bias], { node }) {
    checkShapes(node, x!.dims, w!.dims);
    const group = groupOf(node);
    const window = transposedWindow(node, x!.dims.slice(2), w!.dims.slice(2));
    const outChannels = w!.dims[1] * group;
    if (bias && bias.size !== outChannels) throw modelError(node, `${outChannels} elements`, 'the bias', bias.size);
    const dims = [x!.dims[0], outChannels, ...window.output];
    const out = scatterProducts(toDoubles(x!), x!.dims, toDoubles(w!), w!.dims, group, window);
    if (bias) {
      const values = toDoubles(bias);
      const plane = sizeOf(window.output);
      for (let i = 0; i < out.length; i++) out[i] += values[Math.floor(i / plane) % outChannels];
    }
    return [fromDoubles(x!.type, out, dims)];
  },
  /**
   * Only windows that neither overlap nor leave gaps (kernel = stride, no padding), the usual 2x upsampling: each input
   * pixel times a matrix gives its whole output block, so that the work is a GEMM, and a copy that interleaves the blocks.
   */
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const w = context.constant(node.requiredInput(1));
    const biasValue = node.input(2);
    const bias = context.constant(biasValue);
    const shape = context.shape(value);
    if (context.dtype(value) !== 'float32' || w?.type !== 'float32' || (biasValue && !bias) || shape.length !== 4)
      return false;
    checkShapes(node, shape, w.dims);
    const { kernel, strides, dilations, padsBegin, output } = transposedWindow(node, shape.slice(2), w.dims.slice(2));
    const blocks = kernel.every(
      (k, i) => k === strides[i] && dilations[i] === 1 && padsBegin[i] === 0 && output[i] === shape[i + 2] * k,
    );
    if (!blocks || groupOf(node) !== 1) return false;
    const [batch, channels, height, width] = shape;
    const [, outChannels, kh, kw] = w.dims;
    const n = kh * kw * outChannels;
    const weights = context.shared(w, 'conv_transpose_f32', () =>
      context.pack.packGemmF32(transpose(w, [0, 2, 3, 1]).data as Float32Array, channels, n, false),
    );
    const perBlock = bias
      ? Float32Array.from({ length: n }, (_, i) => (bias.data as Float32Array)[i % outChannels])
      : null;
    const x = context.slot(value, 'nhwc');
    const product = context.temporary('float32', [batch, height, width, kh, kw, outChannels]);
    const y = context.output(node.output, 'nhwc');
    const m = batch * height * width;
    const [min, max] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
    context.emit({ op: 'gemm', x: x.id, y: product.id, m, weights, bias: perBlock, min, max });
    const steps = stridesOf(product.shape);
    const order = [0, 1, 3, 2, 4, 5];
    context.emit({
      op: 'strided_copy',
      x: product.id,
      y: y.id,
      shape: order.map((axis) => product.shape[axis]),
      strides: order.map((axis) => steps[axis]),
      offset: 0,
    });
    return true;
  },
});

/** Adds x[c] * w[c, m] to every output position that a tap reaches. */
function scatterProducts(
  x: Float64Array,
  xDims: readonly number[],
  w: Float64Array,
  wDims: readonly number[],
  group: number,
  window: Window,
): Float64Array {
  const { kernel, strides, dilations, padsBegin, input, output } = toSpatialRank(window, 3);
  const [batch, channels] = xDims;
  const perGroup = wDims[1];
  const [inPlane, outPlane, taps] = [input, output, kernel].map(sizeOf);
  const out = new Float64Array(batch * perGroup * group * outPlane);
  for (let n = 0; n < batch; n++) {
    for (let c = 0; c < channels; c++) {
      const from = (n * channels + c) * inPlane;
      const firstOutput = n * perGroup * group + Math.floor(c / (channels / group)) * perGroup;
      for (let m = 0; m < perGroup; m++) {
        const to = (firstOutput + m) * outPlane;
        for (let tap = 0; tap < taps; tap++) {
          const weight = w[(c * perGroup + m) * taps + tap];
          const kx = (tap % kernel[2]) * dilations[2] - padsBegin[2];
          const ky = (Math.floor(tap / kernel[2]) % kernel[1]) * dilations[1] - padsBegin[1];
          const kz = Math.floor(tap / (kernel[2] * kernel[1])) * dilations[0] - padsBegin[0];
          for (let z = 0; z < input[0]; z++) {
            const oz = z * strides[0] + kz;
            if (oz < 0 || oz >= output[0]) continue;
            for (let y = 0; y < input[1]; y++) {
              const oy = y * strides[1] + ky;
              if (oy < 0 || oy >= output[1]) continue;
              const source = from + (z * input[1] + y) * input[2];
              const row = to + (oz * output[1] + oy) * output[2];
              for (let i = 0; i < input[2]; i++) {
                const ox = i * strides[2] + kx;
                if (ox >= 0 && ox < output[2]) out[row + ox] += x[source + i] * weight;
              }
            }
          }
        }
      }
    }
  }
  return out;
}
