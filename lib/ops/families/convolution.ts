/**
 * Convolution for every operator that has one: shapes, the exact sum of products in TypeScript, and the native steps.
 * Sums are made in double: exact for 8-bit operands, so that `| 0` gives the int32 accumulator with its wrap-around.
 */
import type { Codes, OutputSpec } from '../../../binding';
import type { Node } from '../../graph/graph';
import { sizeOf } from '../../tensor/shape';
import { allocate, codeRange, type DType } from '../../tensor/dtype';
import { Tensor } from '../../tensor/tensor';
import type { InferContext, LowerContext, QuantTrait } from '../define-op';
import { conflicts, modelError, type Shape } from './inference';
import { remember } from './lowering';
import { type Quantization, requantizeCode, spread } from './quantization';
import type { RunTimeParameters } from './run-time-input';
import { toDoubles } from './values';
import { inferWindow, resolveWindow, toSpatialRank, type Window, windowAttributes, windowGeometry } from './window';

/** The group count. */
export function groupOf(node: Node): number {
  const group = node.attributes.int('group', 1);
  if (!Number.isInteger(group) || group < 1) throw modelError(node, 'a positive integer', 'group', group);
  return group;
}

/** Shape of a convolution of input `x` [N, C, ...] by the weight input `w` [M, C/group, ...]. */
export function inferConvolution(context: InferContext, xIndex: number, wIndex: number): Shape {
  const { node } = context;
  const x = context.input(xIndex).shape;
  const w = context.input(wIndex).shape;
  const group = groupOf(node);
  if (w && (w.length < 3 || w.length > 5)) {
    throw modelError(node, 'rank 3 to 5', `input ${wIndex} (weights)`, `shape [${w.join(', ')}]`);
  }
  if (x && w && x.length !== w.length) {
    throw modelError(node, `rank ${w.length}, as the weights,`, `input ${xIndex}`, `shape [${x.join(', ')}]`);
  }
  if (w && typeof w[0] === 'number' && w[0] % group !== 0) {
    throw modelError(node, `output channels divisible by group (${group})`, `input ${wIndex} (weights)`, w[0]);
  }
  if (x && w && typeof w[1] === 'number' && conflicts(x[1], w[1] * group)) {
    throw modelError(node, `${w[1] * group} channels (weights' ${w[1]} x group ${group})`, `input ${xIndex}`, x[1]);
  }
  if (!x || !w) return undefined;
  const kernel = w.slice(2);
  const known = kernel.every((k) => typeof k === 'number') ? (kernel as number[]) : undefined;
  if (!known && !node.attributes.ints('kernel_shape'))
    return [x[0], w[0], ...x.slice(2).map(() => context.unknownDim())];
  return [x[0], w[0], ...inferWindow(context, windowAttributes(node, known), x.slice(2))];
}

/** The window of a convolution of concrete shapes, with all checks that lowering and running rely on. */
export function convolutionWindow(node: Node, x: readonly number[], w: readonly number[]): Window {
  const group = groupOf(node);
  if (x.length !== w.length || x.length < 3 || x.length > 5) {
    throw modelError(node, 'equal ranks 3 to 5', 'input and weights', `shapes [${x.join(', ')}] and [${w.join(', ')}]`);
  }
  if (x[1] !== w[1] * group || w[0] % group !== 0) {
    throw modelError(
      node,
      `channels that fit group ${group}`,
      'input and weights',
      `shapes [${x.join(', ')}] and [${w.join(', ')}]`,
    );
  }
  return resolveWindow(node, windowAttributes(node, w.slice(2)), x.slice(2));
}

/**
 * sum over taps of x * w for x [N, C, ...], w [M, C/group, ...] (1 to 3 spatial axes); padding contributes 0. Cost: N * M
 * * outputs * taps multiplications, about 5e8 a second.
 */
export function convolve(
  x: Float64Array,
  xDims: readonly number[],
  w: Float64Array,
  wDims: readonly number[],
  group: number,
  window: Window,
): { sums: Float64Array; dims: number[] } {
  const { kernel, strides, dilations, padsBegin, input, output } = toSpatialRank(window, 3);
  const [batch, channels] = xDims;
  const [outChannels, perGroup] = wDims;
  const inPlane = sizeOf(input);
  const outPlane = sizeOf(output);
  const taps = sizeOf(kernel);
  const sums = new Float64Array(batch * outChannels * outPlane);
  const [columnStride] = [strides[2]];
  for (let n = 0; n < batch; n++) {
    for (let m = 0; m < outChannels; m++) {
      const to = (n * outChannels + m) * outPlane;
      const firstChannel = Math.floor(m / (outChannels / group)) * perGroup;
      for (let c = 0; c < perGroup; c++) {
        const from = (n * channels + firstChannel + c) * inPlane;
        for (let tap = 0; tap < taps; tap++) {
          const weight = w[(m * perGroup + c) * taps + tap];
          if (weight === 0) continue;
          const kx = (tap % kernel[2]) * dilations[2] - padsBegin[2];
          const ky = (Math.floor(tap / kernel[2]) % kernel[1]) * dilations[1] - padsBegin[1];
          const kz = Math.floor(tap / (kernel[2] * kernel[1])) * dilations[0] - padsBegin[0];
          // Columns whose tap lies inside the input: 0 <= column * stride + kx < width.
          const first = Math.max(0, Math.ceil(-kx / columnStride));
          const last = Math.min(output[2], Math.ceil((input[2] - kx) / columnStride));
          for (let z = 0; z < output[0]; z++) {
            const iz = z * strides[0] + kz;
            if (iz < 0 || iz >= input[0]) continue;
            for (let y = 0; y < output[1]; y++) {
              const iy = y * strides[1] + ky;
              if (iy < 0 || iy >= input[1]) continue;
              const source = from + (iz * input[1] + iy) * input[2] + kx;
              const row = to + (z * output[1] + y) * output[2];
              for (let column = first; column < last; column++) {
                sums[row + column] += x[source + column * columnStride] * weight;
              }
            }
          }
        }
      }
    }
  }
  return { sums, dims: [batch, outChannels, ...window.output] };
}

/** Codes minus zero points as doubles. `perChannel` zero points run along axis 0. */
export function centered(node: Node, codes: Tensor, zeroPoint: Tensor | null, name: string): Float64Array {
  const values = toDoubles(codes);
  const channels = codes.dims[0] ?? 1;
  const zeros =
    zeroPoint && zeroPoint.size > 1 ? spread(node, name, zeroPoint, channels) : spread(node, name, zeroPoint, 1);
  const perZero = values.length / zeros.length;
  for (let i = 0; i < values.length; i++) values[i] -= zeros[Math.floor(i / perZero)];
  return values;
}

/** The exact int32 accumulator of an 8-bit convolution, bias not included. */
export function convolveCodes(
  node: Node,
  x: Tensor,
  xZeroPoint: Tensor | null,
  w: Tensor,
  wZeroPoint: Tensor | null,
): { sums: Float64Array; dims: number[] } {
  if (xZeroPoint && xZeroPoint.size !== 1)
    throw modelError(node, 'one element', 'the zero point of x', xZeroPoint.size);
  const window = convolutionWindow(node, x.dims, w.dims);
  const left = centered(node, x, xZeroPoint, 'the zero point of x');
  const right = centered(node, w, wZeroPoint, 'the zero point of w');
  const result = convolve(left, x.dims, right, w.dims, groupOf(node), window);
  for (let i = 0; i < result.sums.length; i++) result.sums[i] |= 0;
  return result;
}

/**
 * int32 sums [N, C, ...] of a convolution, plus bias, to codes. Multipliers are one for all, or one per channel.
 */
export function requantizeChannels(
  node: Node,
  { sums, dims }: { sums: Float64Array; dims: number[] },
  multipliers: Float32Array,
  bias: Tensor | null | undefined,
  y: Quantization,
): Tensor {
  const channels = dims[1];
  checkChannels(node, 'the scale of w', multipliers.length, channels);
  if (bias && bias.size !== channels) throw modelError(node, `${channels} elements`, 'the bias', bias.size);
  const offsets = bias ? toDoubles(bias) : new Float64Array(channels);
  const [min, max] = codeRange(y.dtype);
  const plane = sums.length / (dims[0] * channels || 1);
  const out = allocate(y.dtype, sums.length);
  for (let i = 0; i < sums.length; i++) {
    const c = Math.floor(i / plane) % channels;
    const multiplier = multipliers[multipliers.length === 1 ? 0 : c];
    out[i] = requantizeCode((sums[i] + offsets[c]) | 0, multiplier, y.zeroPoint, min, max);
  }
  return new Tensor<DType>(y.dtype, out, dims);
}

/** One value for all, or one per channel. */
export function checkChannels(node: Node, name: string, count: number, channels: number): void {
  if (count !== 1 && count !== channels) throw modelError(node, `1 or ${channels} elements`, name, `${count} elements`);
}

/**
 * Emits an 8-bit convolution step. `xParameters` is the zero point of x, or what an earlier step computes: then `output` is
 * not requantized, and its scale is that of w. False when weights or their zero points are not constant.
 */
export function lowerQConv(
  context: LowerContext,
  inputs: { x: number; w: number; wZeroPoint: number },
  xParameters: number | RunTimeParameters,
  output: OutputSpec,
): boolean {
  const { node } = context;
  const x = node.requiredInput(inputs.x);
  const w = context.constant(node.requiredInput(inputs.w));
  const zeroPointValue = node.input(inputs.wZeroPoint);
  const zeroPoint = context.constant(zeroPointValue);
  const xShape = context.shape(x);
  if (!w || (zeroPointValue && !zeroPoint)) return false;
  const window = convolutionWindow(node, xShape, w.dims);
  const group = groupOf(node);
  const { zeros, key } = remember(w, [group, zeroPoint], () => weightKey(group, zeroPoint));
  const weights = context.shared(w, key, () => context.pack.packConv(w.data as Codes, planar(w.dims), group, zeros));
  const source = context.slot(x, 'nhwc');
  const y = context.output(node.output, 'nhwc');
  const convolution = {
    x: source.id,
    y: y.id,
    weights,
    outChannels: w.dims[0],
    group,
    ...windowGeometry(window, xShape[0], xShape[1]),
  };
  if (typeof xParameters === 'number') {
    context.emit({ op: 'qconv', ...convolution, xZeroPoint: xParameters, output });
    return true;
  }
  if (output.kind === 'requantize') return false;
  const xScale = output.kind === 'int32' ? null : (xParameters.scale?.id ?? null);
  context.emit({ op: 'qconv_dynamic', ...convolution, xScale, xZeroPoint: xParameters.zeroPoint.id, output });
  return true;
}

/** The zero points of weights unless all are 0, and a name for packing with them. */
function weightKey(group: number, zeroPoint: Tensor | undefined): { zeros: Codes | null; key: string } {
  const zeros = zeroPoint && toDoubles(zeroPoint).some((z) => z !== 0) ? (zeroPoint.data as Codes) : null;
  return { zeros, key: `conv/${group}/${zeros ? zeros.join() : ''}` };
}

/** Weight dims [M, C, KH, KW]; the rows of a volume's kernel are those of all its slices. */
export function planar([outChannels, channels, ...kernel]: readonly number[]): number[] {
  return [outChannels, channels, sizeOf(kernel.slice(0, -1)), kernel[kernel.length - 1]];
}

/** Weights with output channels first, bias of int32. */
export const CONV_TRAIT: QuantTrait = { kind: 'compute', weight: 1, bias: 2, axis: 0 };
