/**
 * Sliding windows of convolution and pooling: attributes, their checks, padding modes and output sizes. Everything
 * downstream (run, lower) works on a resolved {@link Window}, whose numbers are valid by construction.
 */
import type { WindowGeometry } from '../../../binding';
import type { Dim, Node } from '../../graph/graph';
import type { InferContext } from '../define-op';
import { modelError } from './inference';

type AutoPad = 'NOTSET' | 'VALID' | 'SAME_UPPER' | 'SAME_LOWER';
const AUTO_PADS: readonly string[] = ['NOTSET', 'VALID', 'SAME_UPPER', 'SAME_LOWER'];

/** Window attributes; every list has one entry per spatial axis. */
export interface WindowAttributes {
  kernel: number[];
  strides: number[];
  dilations: number[];
  padsBegin: number[];
  padsEnd: number[];
  autoPad: AutoPad;
  ceilMode: boolean;
}

/** A window over a concrete input, with explicit padding and the output size. */
export interface Window {
  kernel: number[];
  strides: number[];
  dilations: number[];
  padsBegin: number[];
  padsEnd: number[];
  input: number[];
  output: number[];
}

/** Reads and checks the window attributes of a node. `kernel` comes from the weights where the attribute may be absent. */
export function windowAttributes(node: Node, kernel?: readonly number[]): WindowAttributes {
  const { attributes } = node;
  const kernelShape = attributes.ints('kernel_shape') ?? kernel;
  if (!kernelShape || kernelShape.length === 0) throw modelError(node, 'a list', 'kernel_shape', 'nothing');
  const rank = kernelShape.length;
  if (kernel?.some((size, i) => size !== kernelShape[i] || kernel.length !== rank)) {
    throw modelError(node, `the spatial shape of the weights [${kernel.join(', ')}]`, 'kernel_shape', kernelShape);
  }
  const autoPad = attributes.string('auto_pad', 'NOTSET') || 'NOTSET';
  if (!AUTO_PADS.includes(autoPad)) throw modelError(node, `one of ${AUTO_PADS.join(', ')}`, 'auto_pad', autoPad);
  const pads = autoPad === 'NOTSET' ? positive(node, 'pads', 2 * rank, 0, 0) : new Array<number>(2 * rank).fill(0);
  return {
    kernel: checkInts(node, 'kernel_shape', kernelShape, rank, 1),
    strides: positive(node, 'strides', rank, 1, 1),
    dilations: positive(node, 'dilations', rank, 1, 1),
    padsBegin: pads.slice(0, rank),
    padsEnd: pads.slice(rank),
    autoPad: autoPad as AutoPad,
    ceilMode: attributes.int('ceil_mode', 0) !== 0,
  };
}

function positive(node: Node, name: string, length: number, fallback: number, least: number): number[] {
  const values = node.attributes.ints(name);
  if (!values || values.length === 0) return new Array<number>(length).fill(fallback);
  return checkInts(node, name, values, length, least);
}

/** At most 2^31 - 1, so that extents stay exact. */
function checkInts(node: Node, name: string, values: readonly number[], length: number, least: number): number[] {
  const fits = values.length === length && values.every((v) => Number.isInteger(v) && v >= least && v < 2 ** 31);
  if (!fits) throw modelError(node, `${length} integers >= ${least}`, name, values);
  return [...values];
}

/** Fixes padding and output size for an input of these spatial extents. @throws ERR_Q8_BAD_MODEL when nothing is left. */
export function resolveWindow(node: Node, attributes: WindowAttributes, input: readonly number[]): Window {
  const { kernel, strides, dilations, autoPad, ceilMode } = attributes;
  const padsBegin = [...attributes.padsBegin];
  const padsEnd = [...attributes.padsEnd];
  if (input.length !== kernel.length) {
    throw modelError(node, `${kernel.length} spatial dimensions`, 'input 0', `spatial shape [${input.join(', ')}]`);
  }
  const output = input.map((size, i) => {
    const extent = (kernel[i] - 1) * dilations[i] + 1;
    if (autoPad === 'SAME_UPPER' || autoPad === 'SAME_LOWER') {
      const out = Math.ceil(size / strides[i]);
      const total = Math.max(0, (out - 1) * strides[i] + extent - size);
      padsBegin[i] = autoPad === 'SAME_UPPER' ? total >> 1 : total - (total >> 1);
      padsEnd[i] = total - padsBegin[i];
      return out;
    }
    const span = size + padsBegin[i] + padsEnd[i] - extent;
    let out = Math.floor(span / strides[i]) + 1;
    if (ceilMode) {
      out = Math.ceil(span / strides[i]) + 1;
      // A window that would start in the padding at the end is dropped.
      if ((out - 1) * strides[i] >= size + padsBegin[i]) out--;
    }
    if (out < 1) {
      throw modelError(
        node,
        `a padded input of at least ${extent} (the kernel's extent)`,
        `spatial axis ${i}`,
        size + padsBegin[i] + padsEnd[i],
      );
    }
    return out;
  });
  return { kernel, strides, dilations, padsBegin, padsEnd, input: [...input], output };
}

/** Output spatial dimensions for a partly symbolic input. A stride-1 window that keeps sizes keeps symbols too. */
export function inferWindow(context: InferContext, attributes: WindowAttributes, input: readonly Dim[]): Dim[] {
  const { node } = context;
  const { kernel, strides, dilations, padsBegin, padsEnd, autoPad } = attributes;
  if (input.length !== kernel.length) {
    throw modelError(node, `${kernel.length} spatial dimensions`, 'input 0', `spatial shape [${input.join(', ')}]`);
  }
  return input.map((size, i) => {
    if (typeof size === 'number') {
      const at = (list: number[]): number[] => [list[i]];
      const one = {
        kernel: at(kernel),
        strides: at(strides),
        dilations: at(dilations),
        padsBegin: at(padsBegin),
        padsEnd: at(padsEnd),
      };
      return resolveWindow(node, { ...attributes, ...one }, [size]).output[0];
    }
    const same = autoPad.startsWith('SAME') || padsBegin[i] + padsEnd[i] === (kernel[i] - 1) * dilations[i];
    return strides[i] === 1 && same ? size : context.unknownDim();
  });
}

/** The same window with leading spatial axes of size 1, so that one loop serves 1-D to 3-D. */
export function toSpatialRank(window: Window, rank: number): Window {
  const lead = (value: number, list: readonly number[]): number[] => [
    ...new Array<number>(rank - list.length).fill(value),
    ...list,
  ];
  return {
    kernel: lead(1, window.kernel),
    strides: lead(1, window.strides),
    dilations: lead(1, window.dilations),
    padsBegin: lead(0, window.padsBegin),
    padsEnd: lead(0, window.padsEnd),
    input: lead(1, window.input),
    output: lead(1, window.output),
  };
}

/** The native description of a window over [batch, channels, ...spatial]. */
export function windowGeometry(window: Window, batch: number, channels: number): WindowGeometry {
  const { axes, images } = nativeAxes(window);
  const { kernel, strides, dilations, padsBegin, input, output } = axes;
  const at = kernel.length - 2;
  const geometry = {
    batch: batch * images,
    height: input[at],
    width: input[at + 1],
    channels,
    outHeight: output[at],
    outWidth: output[at + 1],
    kernelHeight: kernel[at],
    kernelWidth: kernel[at + 1],
    strideHeight: strides[at],
    strideWidth: strides[at + 1],
    dilationHeight: dilations[at],
    dilationWidth: dilations[at + 1],
    padTop: padsBegin[at],
    padLeft: padsBegin[at + 1],
  };
  if (at === 0) return geometry;
  return {
    ...geometry,
    depth: input[0],
    outDepth: output[0],
    kernelDepth: kernel[0],
    strideDepth: strides[0],
    dilationDepth: dilations[0],
    padFront: padsBegin[0],
  };
}

/** Paddings at the ends of a window, as the average pooling steps want them. */
export function endPads(window: Window): { padBottom: number; padRight: number; padBack?: number } {
  const { padsEnd } = nativeAxes(window).axes;
  const at = padsEnd.length - 2;
  const ends = { padBottom: padsEnd[at], padRight: padsEnd[at + 1] };
  return at === 0 ? ends : { ...ends, padBack: padsEnd[0] };
}

/**
 * A window with two axes, for which there are more kernels than for three, wherever that will do: slices of a volume that
 * the window does not mix are images of their own, and pixels of a slice that it does not mix are one row.
 */
function nativeAxes(window: Window): { axes: Window; images: number } {
  const axes = toSpatialRank(window, 3);
  const { kernel, strides, padsBegin, padsEnd, input } = axes;
  const mixes = kernel.map((size, i) => size !== 1 || strides[i] !== 1 || padsBegin[i] !== 0 || padsEnd[i] !== 0);
  const each = (change: (list: readonly number[]) => number[]): Window => ({
    kernel: change(axes.kernel),
    strides: change(axes.strides),
    dilations: change(axes.dilations),
    padsBegin: change(axes.padsBegin),
    padsEnd: change(axes.padsEnd),
    input: change(axes.input),
    output: change(axes.output),
  });
  if (!mixes[0]) return { axes: each(([, height, width]) => [height, width]), images: input[0] };
  if (mixes[1] || mixes[2]) return { axes, images: 1 };
  const rows = each(([depth]) => [depth, 1]);
  return {
    axes: {
      ...rows,
      padsBegin: [padsBegin[0], 0],
      padsEnd: [padsEnd[0], 0],
      input: [input[0], input[1] * input[2]],
      output: [axes.output[0], input[1] * input[2]],
    },
    images: 1,
  };
}
