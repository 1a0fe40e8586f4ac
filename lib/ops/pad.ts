/** Pad (ai.onnx 2, 11, 13, 18, 19, 21): adds (or, with negative counts, removes) elements at the ends of axes. */
import type { Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { allocate, bytesOf, type DType } from '../tensor/dtype';
import { defineOp, type QuantTrait } from './define-op';
import { axisOf, modelError, unknownShape } from './families/inference';
import { existingLayout, isNative, physicalAxis, physicalOrder } from './families/lowering';
import { pickAlong, split3 } from './families/strided';
import { integersOf } from './families/values';

type Mode = 'constant' | 'reflect' | 'edge' | 'wrap';

function modeOf(node: Node): Mode {
  const mode = node.attributes.string('mode', 'constant');
  if (!['constant', 'reflect', 'edge', 'wrap'].includes(mode)) {
    throw modelError(node, 'constant, reflect, edge or wrap', 'mode', mode);
  }
  return mode as Mode;
}

interface Pads {
  begins: number[];
  ends: number[];
}

/** Counts per axis. Undefined when they are computed at run time. */
function padsOf(
  node: Node,
  opset: number,
  rank: number,
  input: (i: number) => Tensor | null | undefined,
): Pads | undefined {
  if (opset >= 11 && [1, 3].some((i) => node.input(i) && !input(i))) return undefined;
  const padsInput = opset >= 11 ? input(1) : undefined;
  const pads =
    opset < 11
      ? (node.attributes.ints('pads') ?? node.attributes.ints('paddings'))
      : padsInput && integersOf(padsInput);
  if (!pads) throw modelError(node, 'a list', 'pads', 'nothing');
  const axesInput = opset >= 18 ? input(3) : undefined;
  const axes = axesInput ? integersOf(axesInput).map((axis) => axisOf(node, axis, rank)) : [...new Array(rank).keys()];
  if (pads.length !== 2 * axes.length) throw modelError(node, `${2 * axes.length} integers`, 'pads', pads);
  const begins = new Array<number>(rank).fill(0);
  const ends = new Array<number>(rank).fill(0);
  for (const [i, axis] of axes.entries()) {
    begins[axis] = pads[i];
    ends[axis] = pads[i + axes.length];
  }
  return { begins, ends };
}

/** Where each element of a padded axis comes from; -1 for the constant. */
function sources(node: Node, size: number, begin: number, end: number, mode: Mode): Int32Array {
  const length = size + begin + end;
  if (length < 0) throw modelError(node, `at most ${size} elements removed`, 'pads', [begin, end]);
  if (mode !== 'constant' && size === 0 && length > 0)
    throw modelError(node, 'elements to repeat', 'input 0', 'an empty axis');
  return Int32Array.from({ length }, (_, i) => {
    const at = i - begin;
    if (at >= 0 && at < size) return at;
    if (mode === 'constant') return -1;
    if (mode === 'edge') return at < 0 ? 0 : size - 1;
    if (mode === 'wrap') return ((at % size) + size) % size;
    const period = Math.max(1, 2 * (size - 1));
    const folded = ((at % period) + period) % period;
    return folded < size ? folded : period - folded;
  });
}

/** One element of `dtype` as bytes: the constant input's, or the attribute's value. */
function fillBytes(node: Node, opset: number, dtype: DType, constant: Tensor | undefined): Uint8Array {
  const element = allocate(dtype, 1) as Float32Array;
  if (constant) element[0] = (constant.data as Float32Array)[0];
  else if (opset < 11) element[0] = node.attributes.float('value', 0);
  return new Uint8Array(element.buffer, 0, bytesOf(dtype));
}

/** What is put around the input; undefined when that is computed. */
function paddedValue(node: Node): number | undefined {
  const value = node.input(2);
  if (value) return value.constant && Number(value.constant.data[0]);
  return node.attributes.float('value', 0);
}

/** What a Pad puts around a tensor of that rank: a number, so many times. Undefined in other modes, or when it is computed. */
export function constantPadding(node: Node, opset: number, rank: number): (Pads & { value: number }) | undefined {
  if (modeOf(node) !== 'constant') return undefined;
  const pads = padsOf(node, opset, rank, (i) => node.input(i)?.constant);
  const value = paddedValue(node);
  return pads && value !== undefined ? { ...pads, value } : undefined;
}

const MOVES: QuantTrait = { kind: 'agnostic' };
/** The result has a scale that covers the value, and lends it to the input where nobody else reads that. */
const ADDS_A_VALUE: QuantTrait = { kind: 'elementwise', inputs: [0], selects: 'optional' };
const STAYS: QuantTrait = {
  ...MOVES,
  when: (node) =>
    paddedValue(node) === undefined ? 'it pads with a computed value' : 'it pads with what stands for an infinity',
};
/** As for operands in front of a Softmax: nothing that is a number of the network is that large. */
const LARGEST_VALUE = 1e4;

/** Zero has a code in every quantization. */
function traitOf(node: Node): QuantTrait {
  const value = paddedValue(node);
  if (modeOf(node) !== 'constant' || value === 0) return MOVES;
  return value !== undefined && Math.abs(value) < LARGEST_VALUE ? ADDS_A_VALUE : STAYS;
}

export const Pad = defineOp({
  type: 'Pad',
  since: [2, 11, 13, 18, 19, 21],
  quant: traitOf,
  inferShape(context) {
    const { node, opset } = context;
    const { dtype, shape } = context.input(0);
    const mode = modeOf(node);
    if (!shape) return [{ dtype }];
    const pads = padsOf(node, opset, shape.length, (i) => context.constant(i));
    if (!pads) return [{ dtype, shape: unknownShape(context, shape.length) }];
    const { begins, ends } = pads;
    return [
      {
        dtype,
        shape: shape.map((dim, i) => {
          if (typeof dim === 'string') return begins[i] === 0 && ends[i] === 0 ? dim : context.unknownDim();
          if (mode !== 'constant' && dim === 0 && begins[i] + ends[i] > 0)
            throw modelError(node, 'elements to repeat', 'input 0', 'an empty axis');
          const size = dim + begins[i] + ends[i];
          if (size < 0) throw modelError(node, `at most ${dim} elements removed`, 'pads', [begins[i], ends[i]]);
          return size;
        }),
      },
    ];
  },
  run(inputs, { node, opset }) {
    const x = inputs[0]!;
    const mode = modeOf(node);
    const { begins, ends } = padsOf(node, opset, x.dims.length, (i) => inputs[i])!;
    const fill = allocate(x.type, 1) as Float32Array;
    const given = opset >= 11 ? inputs[2] : undefined;
    if (given) fill[0] = (given.data as Float32Array)[0];
    else if (opset < 11) fill[0] = node.attributes.float('value', 0);
    return [
      x.dims.reduce<Tensor>((padded, size, axis) => {
        if (begins[axis] === 0 && ends[axis] === 0) return padded;
        return pickAlong(padded, axis, sources(node, size, begins[axis], ends[axis], mode), fill[0]);
      }, x),
    ];
  },
  lower(context) {
    const { node, opset } = context;
    const value = node.requiredInput(0);
    const dtype = context.dtype(value);
    const shape = context.shape(value);
    const mode = modeOf(node);
    const pads = padsOf(node, opset, shape.length, (i) => context.constant(node.input(i)));
    const fillValue = opset >= 11 ? node.input(2) : null;
    const fill = context.constant(fillValue);
    if (!isNative(dtype) || !pads || (fillValue && !fill)) return false;
    const layout = existingLayout(context, value);
    const output = node.output;
    if (mode === 'constant') {
      context.emit({
        op: 'pad',
        x: context.slot(value, layout).id,
        y: context.output(output, layout).id,
        shape: physicalOrder(shape, layout),
        begins: physicalOrder(pads.begins, layout),
        outShape: physicalOrder(context.shape(output), layout),
        value: fillBytes(node, opset, dtype, fill),
      });
      return true;
    }
    const axes = shape.map((_, axis) => axis).filter((axis) => pads.begins[axis] !== 0 || pads.ends[axis] !== 0);
    let x = context.slot(value, layout);
    if (axes.length === 0) context.alias(output, x, layout);
    for (const [i, axis] of axes.entries()) {
      const indices = sources(node, shape[axis], pads.begins[axis], pads.ends[axis], mode);
      const at = physicalAxis(axis, shape.length, layout);
      const [outer, axisSize, inner] = split3(x.shape, at);
      const dims = x.shape.map((dim, j) => (j === at ? indices.length : dim));
      const y = i === axes.length - 1 ? context.output(output, layout) : context.temporary(dtype, dims);
      context.emit({ op: 'gather', x: x.id, y: y.id, outer, axisSize, inner, indices });
      x = { ...y, shape: dims };
    }
    return true;
  },
});
