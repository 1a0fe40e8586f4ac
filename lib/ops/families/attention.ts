/**
 * Attention of many heads as com.microsoft defines it, float and quantized alike: a projection gives rows that hold
 * queries, keys and values side by side; the rest is here.
 */
import { type Dim, isConcrete, type Node, type ValueType } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { InferContext, LowerContext, Slot } from '../define-op';
import { modelError, shapeOfRank } from './inference';
import { fromDoubles, integersOf, toDoubles } from './values';

/** What attributes and shapes say. */
export interface AttentionPlan {
  batch: number;
  length: number;
  heads: number;
  /** Elements of a head: queries and keys, values. */
  headSize: number;
  valueSize: number;
  /** Elements of a row: of queries (and of keys), and of all three. */
  width: number;
  rowWidth: number;
  scale: number;
  causal: boolean;
  maskValue: number;
}

/** @throws ERR_Q8_BAD_MODEL for sizes that do not fit; `rowWidth` is the number of columns of the weight. */
export function planAttention(node: Node, inputDims: readonly number[], rowWidth: number): AttentionPlan {
  const { attributes } = node;
  const heads = attributes.int('num_heads', 0);
  if (heads < 1) throw modelError(node, 'a positive integer', 'num_heads', heads);
  if (inputDims.length !== 3) throw modelError(node, 'rank 3', 'input 0', `shape [${inputDims.join(', ')}]`);
  if (attributes.int('do_rotary', 0) !== 0) throw modelError(node, '0', 'do_rotary', 1, 'q8 has no rotary embedding.');
  const sizes = attributes.ints('qkv_hidden_sizes') ?? [rowWidth / 3, rowWidth / 3, rowWidth / 3];
  const [width, keyWidth, valueWidth] = sizes;
  const isValid =
    sizes.length === 3 &&
    width === keyWidth &&
    width + keyWidth + valueWidth === rowWidth &&
    sizes.every((size) => Number.isInteger(size / heads));
  if (!isValid) throw modelError(node, `three sizes of ${heads} heads that add up to ${rowWidth}`, 'the weight', sizes);
  const headSize = width / heads;
  const scale = attributes.float('scale', 0);
  return {
    batch: inputDims[0],
    length: inputDims[1],
    heads,
    headSize,
    valueSize: valueWidth / heads,
    width,
    rowWidth,
    scale: Math.fround(scale === 0 ? 1 / Math.sqrt(headSize) : scale),
    causal: attributes.int('unidirectional', 0) !== 0,
    maskValue: Math.fround(attributes.float('mask_filter_value', -10000)),
  };
}

/** Output and present state. `weight` and `past` are input indices. */
export function inferAttention(context: InferContext, weight: number, past: number): ValueType[] {
  const { node } = context;
  const input = shapeOfRank(context, 0, 3);
  const weights = shapeOfRank(context, weight, 2);
  const [batch, length] = input ?? [context.unknownDim(), context.unknownDim()];
  const heads = node.attributes.int('num_heads', 0);
  const sizes = node.attributes.ints('qkv_hidden_sizes');
  const width = weights?.[1];
  const valueWidth: Dim = sizes?.[2] ?? (typeof width === 'number' ? width / 3 : context.unknownDim());
  const headSize = typeof valueWidth === 'number' && heads > 0 ? valueWidth / heads : context.unknownDim();
  const total = context.optionalInput(past) ? context.unknownDim() : length;
  return [
    { dtype: 'float32', shape: [batch, length, valueWidth] },
    { dtype: 'float32', shape: [2, batch, heads, total, headSize] },
  ];
}

export interface AttentionInputs {
  mask: Tensor | null | undefined;
  /** [2, batch, heads, past length, size]. */
  past: Tensor | null | undefined;
  /** Added to the scores, [1 or batch, 1 or heads, length, total]. */
  bias?: Tensor | null | undefined;
}

/** Attention over projected rows [batch, length, rowWidth], in double. */
export function attend(
  node: Node,
  rows: Float64Array,
  plan: AttentionPlan,
  { mask, past, bias }: AttentionInputs,
): [output: Tensor, present: Tensor] {
  const { batch, length, heads, headSize, valueSize, width, rowWidth } = plan;
  const before = past?.dims[3] ?? 0;
  if (past && (headSize !== valueSize || past.size !== 2 * batch * heads * before * headSize)) {
    throw modelError(node, `2 x ${batch} x ${heads} x length x ${headSize}`, 'past', `shape [${past.dims.join(', ')}]`);
  }
  const total = before + length;
  const history = past ? toDoubles(past) : new Float64Array(0);
  const masked = maskOf(node, mask, plan, total);
  const offset = biasOf(node, bias, plan, total);
  const y = new Float64Array(batch * length * heads * valueSize);
  const present = new Float64Array(batch * heads * total * (headSize + valueSize));
  const scores = new Float64Array(total);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const state = (part: 0 | 1): Float64Array => {
        const size = part === 0 ? headSize : valueSize;
        const at = part === 0 ? 0 : batch * heads * total * headSize;
        const head = present.subarray(at + (b * heads + h) * total * size, at + (b * heads + h + 1) * total * size);
        const old = ((part * batch + b) * heads + h) * before * size;
        head.set(history.subarray(old, old + before * size));
        for (let t = 0; t < length; t++) {
          const from = (b * length + t) * rowWidth + (part + 1) * width + h * size;
          head.set(rows.subarray(from, from + size), (before + t) * size);
        }
        return head;
      };
      const [keys, values] = [state(0), state(1)];
      for (let s = 0; s < length; s++) {
        const query = rows.subarray((b * length + s) * rowWidth + h * headSize);
        for (let t = 0; t < total; t++) {
          let sum = 0;
          for (let i = 0; i < headSize; i++) sum += query[i] * keys[t * headSize + i];
          const unseen = plan.causal && t > before + s;
          scores[t] = unseen ? Number.NEGATIVE_INFINITY : sum * plan.scale + masked(b, s, t) + offset(b, h, s, t);
        }
        const top = scores.reduce((a, c) => Math.max(a, c), Number.NEGATIVE_INFINITY);
        let sum = 0;
        for (let t = 0; t < total; t++) sum += scores[t] = Math.exp(scores[t] - top);
        const to = ((b * length + s) * heads + h) * valueSize;
        for (let t = 0; t < total; t++) {
          const weight = scores[t] / sum;
          for (let i = 0; i < valueSize; i++) y[to + i] += weight * values[t * valueSize + i];
        }
      }
    }
  }
  const output = fromDoubles('float32', y, [batch, length, heads * valueSize]);
  // Keys and values stack only when their heads have one size.
  const stateDims = headSize === valueSize ? [2, batch, heads, total, headSize] : [present.length];
  return [output, fromDoubles('float32', present, stateDims)];
}

/**
 * What a mask adds: its filter value to keys that do not count. [B]: lengths; [2B]: ends, then starts; [B, T] and
 * [B, S, T]: keys to keep.
 */
function maskOf(
  node: Node,
  mask: Tensor | null | undefined,
  { batch, length, maskValue }: AttentionPlan,
  total: number,
): (b: number, s: number, t: number) => number {
  if (!mask) return () => 0;
  const values = integersOf(mask);
  const pick = (isKept: boolean): number => (isKept ? 0 : maskValue);
  switch (mask.dims.join()) {
    case `${batch},${total}`:
      return (b, _s, t) => pick(values[b * total + t] > 0);
    case `${batch},${length},${total}`:
      return (b, s, t) => pick(values[(b * length + s) * total + t] > 0);
    case `${batch}`:
      return (b, _s, t) => pick(t < values[b]);
    case `${2 * batch}`:
      return (b, _s, t) => pick(t >= values[batch + b] && t < values[b]);
    default:
      throw modelError(
        node,
        `shape [${batch}], [${2 * batch}], [${batch}, ${total}] or [${batch}, ${length}, ${total}]`,
        'the mask',
        `shape [${mask.dims.join(', ')}]`,
      );
  }
}

function biasOf(
  node: Node,
  bias: Tensor | null | undefined,
  { batch, heads, length }: AttentionPlan,
  total: number,
): (b: number, h: number, s: number, t: number) => number {
  if (!bias) return () => 0;
  const { batchStride, headStride } = biasStrides(node, bias.dims, batch, heads, length, total);
  const values = toDoubles(bias);
  return (b, h, s, t) => values[b * batchStride + h * headStride + s * total + t];
}

function biasStrides(
  node: Node,
  dims: readonly number[],
  batch: number,
  heads: number,
  length: number,
  total: number,
): { batchStride: number; headStride: number } {
  const [b, h] = dims;
  const fits =
    dims.length === 4 &&
    (b === 1 || b === batch) &&
    (h === 1 || h === heads) &&
    dims[2] === length &&
    dims[3] === total;
  if (!fits) {
    const rule = `shape [1 or ${batch}, 1 or ${heads}, ${length}, ${total}]`;
    throw modelError(node, rule, 'the attention bias', `shape [${dims.join(', ')}]`);
  }
  const plane = length * total;
  return { batchStride: b === 1 ? 0 : h * plane, headStride: h === 1 ? 0 : plane };
}

/** Input indices of what {@link canLowerAttention} and {@link emitAttention} read; -1: the operator has no such input. */
export interface AttentionIndices {
  mask: number;
  past: number;
  bias: number;
}

/** By rank of the mask. */
const MASK_KINDS = [undefined, 'lengths', 'keys', 'pairs'] as const;

/** Whether the native step can do this node: no state, and a mask of keys, of pairs or of lengths. */
export function canLowerAttention(context: LowerContext, { mask, past, bias }: AttentionIndices): boolean {
  const { node } = context;
  const maskValue = node.input(mask);
  const biasValue = bias < 0 ? null : node.input(bias);
  if (node.input(past) || node.outputs[1]) return false;
  if (biasValue && context.dtype(biasValue) !== 'float32') return false;
  if (!maskValue) return true;
  const [batch, length] = context.shape(node.requiredInput(0));
  const shape = context.shape(maskValue).join();
  const native = [`${batch}`, `${batch},${length}`, `${batch},${length},${length}`];
  return context.dtype(maskValue) === 'int32' && native.includes(shape);
}

/** Emits the step over projected rows in `rows` [batch, length, rowWidth]. */
export function emitAttention(context: LowerContext, rows: Slot, plan: AttentionPlan, indices: AttentionIndices): void {
  const { node } = context;
  const { batch, length, heads, headSize, valueSize, width, rowWidth, scale, causal, maskValue } = plan;
  const mask = node.input(indices.mask);
  const bias = indices.bias < 0 ? null : node.input(indices.bias);
  const strides = bias && biasStrides(node, context.shape(bias), batch, heads, length, length);
  context.emit({
    op: 'attention',
    q: rows.id,
    k: rows.id,
    v: rows.id,
    y: context.output(node.output, 'row').id,
    qOffset: 0,
    kOffset: width,
    vOffset: 2 * width,
    qStride: rowWidth,
    kStride: rowWidth,
    vStride: rowWidth,
    batch,
    heads,
    length,
    keyLength: length,
    headSize,
    valueSize,
    scale,
    causal,
    mask: mask && context.slot(mask, 'row').id,
    maskKind: MASK_KINDS[mask ? context.shape(mask).length : 0] ?? 'keys',
    maskValue,
    bias: bias && context.slot(bias, 'row').id,
    biasBatchStride: strides?.batchStride ?? 0,
    biasHeadStride: strides?.headStride ?? 0,
  });
}

/** Number of columns of a rank 2 weight. @throws ERR_Q8_BAD_MODEL */
export function columnsOf(node: Node, weight: readonly Dim[]): number {
  if (weight.length !== 2 || !isConcrete(weight)) throw modelError(node, 'rank 2', 'the weight', weight);
  return weight[1];
}

/** Rows of a matrix product plus a bias of one element per column, in double. */
export function project(
  input: Float64Array,
  weight: Float64Array,
  columns: number,
  bias: Float64Array | undefined,
): Float64Array {
  const depth = weight.length / columns;
  const rows = new Float64Array((input.length / depth) * columns);
  for (let r = 0; r < input.length / depth; r++) {
    const row = rows.subarray(r * columns, (r + 1) * columns);
    if (bias) row.set(bias);
    for (let i = 0; i < depth; i++) {
      const factor = input[r * depth + i];
      for (let c = 0; c < columns; c++) row[c] += factor * weight[i * columns + c];
    }
  }
  return rows;
}

/** A plan for concrete shapes of input 0 and the weight at input 1. */
export function planOf(context: LowerContext): AttentionPlan {
  const { node } = context;
  const weight = context.shape(node.requiredInput(1));
  return planAttention(node, context.shape(node.requiredInput(0)), columnsOf(node, weight));
}
