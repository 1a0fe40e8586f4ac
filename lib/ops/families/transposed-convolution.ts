/**
 * Transposed convolution: shapes, the sum of products in TypeScript, and its lowering to a convolution.
 *
 * Output position y = i * stride + k * dilation - pad belongs to phase (y + pad) mod stride of block (y + pad) / stride. All
 * phases of a block read the same few input pixels, so that they are output channels of one convolution with stride 1; a copy
 * then puts the phases beside each other. Taps that a phase does not have are zeros: none for kernels that are multiples of
 * the stride, as 2x2 with stride 2 and 4x4 with stride 2.
 */
import type { Codes, WindowGeometry } from '../../../binding';
import type { Dim, Node, Value } from '../../graph/graph';
import { sizeOf, stridesOf } from '../../tensor/shape';
import type { InferContext, LowerContext } from '../define-op';
import { groupOf } from './convolution';
import { modelError, type Shape } from './inference';
import { toSpatialRank, type Window, windowAttributes, windowGeometry } from './window';

/** The window whose `input` and `output` are those of the transposed convolution: input is the smaller one. */
export function transposedWindow(node: Node, input: readonly number[], kernel: readonly number[]): Window {
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

/** Checks what shapes [N, C, ...] of x and [C, M/group, ...] of w have in common. */
function checkTransposedShapes(node: Node, x: readonly Dim[], w: readonly Dim[]): void {
  const shapes = `shapes [${x.join(', ')}] and [${w.join(', ')}]`;
  if (x.length !== w.length || x.length < 3 || x.length > 5)
    throw modelError(node, 'equal ranks 3 to 5', 'input and weights', shapes);
  const group = groupOf(node);
  const channels = w[0];
  if (typeof channels !== 'number' || typeof x[1] !== 'number') return;
  if (x[1] !== channels || channels % group !== 0)
    throw modelError(node, `equal channels divisible by group ${group}`, 'input and weights', shapes);
}

/** Shape of a transposed convolution of input `xIndex` by the weights `wIndex`. */
export function inferTransposed(context: InferContext, xIndex: number, wIndex: number): Shape {
  const { node } = context;
  const { shape } = context.input(xIndex);
  const w = context.input(wIndex).shape;
  if (!shape || !w) return undefined;
  checkTransposedShapes(node, shape, w);
  const kernel = w.slice(2);
  const channels = typeof w[1] === 'number' ? w[1] * groupOf(node) : context.unknownDim();
  const concrete = [...shape.slice(2), ...kernel].every((dim) => typeof dim === 'number');
  const spatial = concrete
    ? transposedWindow(node, shape.slice(2) as number[], kernel as number[]).output
    : kernel.map(() => context.unknownDim());
  return [shape[0], channels, ...spatial];
}

/** The sums of a node for x [N, C, ...] and w [C, M/group, ...], and the shape of its output. */
export function transposedProducts(
  node: Node,
  x: Float64Array,
  xDims: readonly number[],
  w: Float64Array,
  wDims: readonly number[],
): { sums: Float64Array; dims: number[] } {
  checkTransposedShapes(node, xDims, wDims);
  const group = groupOf(node);
  const window = transposedWindow(node, xDims.slice(2), wDims.slice(2));
  const sums = scatterProducts(x, xDims, w, wDims, group, window);
  return { sums, dims: [xDims[0], wDims[1] * group, ...window.output] };
}

/** The convolution that computes all phases of a block. */
export interface BlockConvolution {
  /** Weight dims [phases * M, C/group, KH, KW]. */
  dims: number[];
  /** Which weight of the node each of its weights is; -1 where it has none. */
  source: Int32Array;
  /** Output channel of the node that each of its output channels is a phase of. */
  channel: Int32Array;
  geometry: WindowGeometry;
}

/**
 * Emits a transposed convolution; `emit` adds the step of the convolution from slot x to slot y. False for ranks above 4.
 */
export function lowerTransposed(
  context: LowerContext,
  value: Value,
  wDims: readonly number[],
  emit: (convolution: BlockConvolution, x: number, y: number) => void,
): boolean {
  const { node } = context;
  const shape = context.shape(value);
  if (shape.length > 4) return false;
  checkTransposedShapes(node, shape, wDims);
  const group = groupOf(node);
  const [batch, channels] = shape;
  const perGroup = wDims[1];
  const window = toSpatialRank(transposedWindow(node, shape.slice(2), wDims.slice(2)), 2);
  const { strides, padsBegin, output } = window;
  // Input pixels before its own that a block reads; its first block; how many blocks; output rows before the first wanted.
  const reach = window.kernel.map((k, i) => Math.floor(((k - 1) * window.dilations[i]) / strides[i]));
  const first = padsBegin.map((pad, i) => Math.min(Math.floor(pad / strides[i]), reach[i]));
  const blocks = output.map((size, i) => Math.floor((size - 1 + padsBegin[i]) / strides[i]) - first[i] + 1);
  const crop = padsBegin.map((pad, i) => pad - first[i] * strides[i]);
  const convolution: BlockConvolution = {
    ...blockWeights(window, wDims, group, reach),
    geometry: windowGeometry(
      {
        kernel: reach.map((pixels) => pixels + 1),
        strides: [1, 1],
        dilations: [1, 1],
        padsBegin: reach.map((pixels, i) => pixels - first[i]),
        padsEnd: [0, 0],
        input: window.input,
        output: blocks,
      },
      batch,
      channels,
    ),
  };
  const x = context.slot(value, 'nhwc');
  const size = blocks.map((count, i) => count * strides[i]);
  const isWhole = size.every((pixels, i) => pixels === output[i]);
  if (isWhole && sizeOf(strides) === 1) {
    emit(convolution, x.id, context.output(node.output, 'nhwc').id);
    return true;
  }
  const dtype = context.dtype(node.output);
  const phases = context.temporary(dtype, [batch, ...blocks, group, ...strides, perGroup]);
  emit(convolution, x.id, phases.id);
  const full = isWhole
    ? context.output(node.output, 'nhwc')
    : context.temporary(dtype, [batch, ...size, group * perGroup]);
  const steps = stridesOf(phases.shape);
  const order = [0, 1, 4, 2, 5, 3, 6];
  context.emit({
    op: 'strided_copy',
    x: phases.id,
    y: full.id,
    shape: order.map((axis) => phases.shape[axis]),
    strides: order.map((axis) => steps[axis]),
    offset: 0,
  });
  if (isWhole) return true;
  const strideOf = stridesOf(full.shape);
  context.emit({
    op: 'strided_copy',
    x: full.id,
    y: context.output(node.output, 'nhwc').id,
    shape: [batch, ...output, group * perGroup],
    strides: strideOf,
    offset: crop[0] * strideOf[1] + crop[1] * strideOf[2],
  });
  return true;
}

function blockWeights(
  { kernel, strides, dilations }: Window,
  wDims: readonly number[],
  group: number,
  reach: readonly number[],
): Omit<BlockConvolution, 'geometry'> {
  const perGroup = wDims[1];
  const depth = wDims[0] / group;
  const phases = sizeOf(strides);
  const dims = [group * phases * perGroup, depth, reach[0] + 1, reach[1] + 1];
  const source = new Int32Array(sizeOf(dims));
  const channel = Int32Array.from(
    { length: dims[0] },
    (_, o) => Math.floor(o / (phases * perGroup)) * perGroup + (o % perGroup),
  );
  // The tap of the kernel that phase r sees t pixels from the first that a block reads, or -1.
  const tapOf = (axis: number, r: number, t: number): number => {
    const tap = (r + strides[axis] * (reach[axis] - t)) / dilations[axis];
    return Number.isInteger(tap) && tap < kernel[axis] ? tap : -1;
  };
  let i = 0;
  for (let o = 0; o < dims[0]; o++) {
    const g = Math.floor(o / (phases * perGroup));
    const phase = Math.floor(o / perGroup) % phases;
    for (let c = 0; c < depth; c++) {
      const from = ((g * depth + c) * perGroup + (o % perGroup)) * kernel[0] * kernel[1];
      for (let ty = 0; ty < dims[2]; ty++) {
        const ky = tapOf(0, Math.floor(phase / strides[1]), ty);
        for (let tx = 0; tx < dims[3]; tx++) {
          const kx = tapOf(1, phase % strides[1], tx);
          source[i++] = ky < 0 || kx < 0 ? -1 : from + ky * kernel[1] + kx;
        }
      }
    }
  }
  return { dims, source, channel };
}

/** The weights of a block convolution; `zeros` is the code of zero, one for all or one per output channel of the node. */
export function gatherWeights<T extends Float32Array | Codes>(
  { dims, source, channel }: BlockConvolution,
  w: T,
  zeros: ArrayLike<number>,
): T {
  const perOutput = sizeOf(dims.slice(1));
  const from = (at: number, i: number): number =>
    at < 0 ? zeros[zeros.length === 1 ? 0 : channel[Math.floor(i / perOutput)]] : w[at];
  const out = new (w.constructor as new (length: number) => T)(source.length);
  for (let i = 0; i < source.length; i++) out[i] = from(source[i], i);
  return out;
}

/** Tells weights of different block convolutions of one tensor apart. */
export function blockKey(node: Node, { dims }: BlockConvolution): string {
  const list = (name: string) => node.attributes.ints(name)?.join() ?? '';
  return `transposed/${groupOf(node)}/${list('strides')}/${list('dilations')}/${dims.join()}`;
}

/** sum of x[c] * w[c, m] over all that reach an output position, for x [N, C, ...] and w [C, M/group, ...]; no bias. */
export function scatterProducts(
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
