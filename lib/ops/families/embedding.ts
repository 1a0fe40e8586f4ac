/**
 * Sums of looked-up rows of tables, normalized: the first layer of BERT-type networks, with float or quantized tables.
 */
import type { Node, Value, ValueType } from '../../graph/graph';
import { Tensor } from '../../tensor/tensor';
import type { InferContext, LowerContext } from '../define-op';
import { modelError, shapeOfRank, typeOf } from './inference';
import { indicesInto } from './indices';
import { normalizeRows } from './normalization';
import { fromDoubles, integersOf } from './values';

/** A table of rows, and which row each position reads. */
export interface Lookup {
  rows: Float64Array;
  count: number;
  indices: Int32Array;
}

export function epsilonOf(node: Node): number {
  return Math.fround(node.attributes.float('epsilon', 1e-12));
}

/** Types of the result, the mask index and, where the operator has one, the sum. */
export function inferEmbedding(context: InferContext, wordTable: number): ValueType[] {
  const ids = shapeOfRank(context, 0, 2) ?? [context.unknownDim(), context.unknownDim()];
  const width = shapeOfRank(context, wordTable, 2)?.[1] ?? context.unknownDim();
  const sum: ValueType = { dtype: 'float32', shape: [...ids, width] };
  return [sum, { ...typeOf(context, 0), shape: [ids[0]] }, sum];
}

/** Indices into a table with `count` rows for ids, or 0, 1, 2... in each row of `dims` where there are none. */
export function lookupIndices(
  node: Node,
  ids: Tensor | null | undefined,
  [batch, length]: readonly number[],
  count: number,
): Int32Array {
  if (ids && ids.size === batch * length) return indicesInto(node, ids, count);
  if (ids && ids.size !== length) throw modelError(node, `${batch} x ${length}`, 'indices', ids.dims);
  const row = ids ? indicesInto(node, ids, count) : Int32Array.from({ length }, (_, i) => i);
  if (row.some((i) => i >= count)) throw modelError(node, `at most ${count} positions`, 'input 0', length);
  return Int32Array.from({ length: batch * length }, (_, i) => row[i % length]);
}

/** Sum of the rows, normalized and scaled, and the sum itself; dims are [...ids, width]. */
export function embed(
  node: Node,
  ids: readonly number[],
  lookups: readonly Lookup[],
  gamma: Float64Array,
  beta: Float64Array | undefined,
): [output: Tensor, sum: Tensor] {
  const width = gamma.length;
  const sums = new Float64Array(lookups[0].indices.length * width);
  for (const { rows, indices } of lookups) {
    indices.forEach((row, at) => {
      for (let i = 0; i < width; i++) sums[at * width + i] += rows[row * width + i];
    });
  }
  const { values } = normalizeRows(sums, width, epsilonOf(node));
  for (let i = 0; i < values.length; i++) values[i] = values[i] * gamma[i % width] + (beta?.[i % width] ?? 0);
  const dims = [...ids, width];
  return [fromDoubles('float32', values, dims), fromDoubles('float32', sums, dims)];
}

/** How many keys of each row count: those whose mask is 1; 0 without a mask. */
export function maskIndex(mask: Tensor | null | undefined, [batch, length]: readonly number[]): Tensor {
  const ends = new Int32Array(batch);
  if (mask) {
    integersOf(mask).forEach((kept, i) => {
      if (kept === 1) ends[Math.floor(i / length)]++;
    });
  }
  return new Tensor('int32', ends, [batch]);
}

/** Gives output 1 its zeros. False where a mask has to be counted, which is not native. */
export function emitMaskIndex(context: LowerContext, mask: Value | null, batch: number): boolean {
  const output = context.node.outputs[1];
  if (!output) return true;
  if (mask) return false;
  context.alias(output, context.constantSlot(Tensor.zeros('int32', [batch])), 'row');
  return true;
}

/**
 * Emits the sum of looked-up rows and its normalization. `lookups` give float32 rows [batch * length, width]; `gamma` and
 * `beta` are slots.
 */
export function emitEmbedding(
  context: LowerContext,
  lookups: readonly number[],
  dims: readonly number[],
  gamma: number,
  beta: number | null,
  sumOutput: Value | null | undefined,
): void {
  const { node } = context;
  const shape = [...dims];
  const strides = [dims[1] * dims[2], dims[2], 1];
  let sum = lookups[0];
  for (let i = 1; i < lookups.length; i++) {
    const isLast = i === lookups.length - 1;
    const y = isLast && sumOutput ? context.output(sumOutput, 'row') : context.temporary('float32', shape);
    const binary = { op: 'binary', kind: 'add', shape, aStrides: strides, bStrides: strides } as const;
    context.emit({ ...binary, a: sum, b: lookups[i], y: y.id });
    sum = y.id;
  }
  context.emit({
    op: 'layer_norm',
    x: sum,
    scale: gamma,
    bias: beta,
    y: context.output(node.output, 'row').id,
    outer: dims[0] * dims[1],
    size: dims[2],
    epsilon: epsilonOf(node),
  });
}

/** Emits the rows of a table (any dtype) that ids [batch, length] pick; ids null: rows 0, 1, 2... for each batch item. */
export function emitRows(context: LowerContext, table: Value, ids: Value | null, [batch, length]: readonly number[]) {
  const { node } = context;
  const [axisSize, inner] = context.shape(table);
  const y = context.temporary(context.dtype(table), [batch, length, inner]);
  const view = { x: context.slot(table, 'row').id, y: y.id, outer: 1, axisSize, inner };
  const constant = context.constant(ids);
  if (!ids || constant || context.shape(ids).reduce((a, b) => a * b, 1) !== batch * length) {
    if (ids && !constant) return undefined;
    context.emit({ op: 'gather', ...view, indices: lookupIndices(node, constant, [batch, length], axisSize) });
  } else {
    context.emit({ op: 'gather_dynamic', ...view, indices: context.slot(ids, 'row').id, count: batch * length });
  }
  return y;
}
