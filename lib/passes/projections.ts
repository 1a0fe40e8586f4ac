/**
 * Where the elements of a tensor come from when it is a matrix product, split and turned: batch, place in the sequence, and
 * column of the weight, for each of its axes. Tells queries, keys and values apart however an exporter cuts them.
 */
import type { Dim, Node, Value } from '../graph/graph';
import { transpose } from '../ops/families/strided';
import { integersOf } from '../ops/families/values';
import type { Tensor } from '../tensor/tensor';
import { floatConstant, isOp, unscale } from './matching';

/** Rows of `input` [batch, length, depth] times a constant [depth, columns], plus a constant row. */
export interface Projection {
  node: Node;
  input: Value;
  /** [depth, columns]. */
  weight: Tensor<'float32'>;
  /** The weight as a value, when it is stored so. */
  weightValue: Value | undefined;
  bias: Tensor<'float32'> | undefined;
  /** Equal for projections by the same constants. */
  key: string;
}

/** A factor of an axis: the batch, the sequence, or columns `stride` apart. */
export interface Factor {
  of: 'batch' | 'length' | 'column';
  size: Dim;
  stride: number;
}

/** Each axis as the product of factors, the slowest first; an axis of size 1 has none. */
export type Axes = readonly (readonly Factor[])[];

export interface View {
  projection: Projection;
  axes: Axes;
  /** The column of the first element. */
  offset: number;
  /** The elements are this times those of the projection. */
  scale: number;
  /** From the projection to the tensor. */
  nodes: Node[];
}

/** A longer way from a projection than exporters write. */
const MAX_MOVES = 32;

/** The tensor as a view of a projection, or undefined when it is none. Needs types. */
export function viewOf(value: Value, depth = 0): View | undefined {
  if (depth > MAX_MOVES) return undefined;
  const node = value.producer;
  if (node?.domain !== '') return undefined;
  const own = projectionOf(value);
  if (own) return own;
  const scaled = unscale(value);
  if (scaled.nodes.length > 0) {
    const inner = viewOf(scaled.value, depth + 1);
    return inner && { ...inner, scale: inner.scale * scaled.factor, nodes: [...inner.nodes, ...scaled.nodes] };
  }
  if (!isOp(node, 'Reshape', 'Squeeze', 'Unsqueeze', 'Transpose', 'Split', 'Slice', 'Gather')) return undefined;
  const view = viewOf(node.requiredInput(0), depth + 1);
  if (!view) return undefined;
  const cut = isOp(node, 'Split', 'Slice', 'Gather') ? cutOf(node, value, view) : undefined;
  const axes = cut?.axes ?? moved(node, view.axes);
  return axes && { ...view, axes, offset: view.offset + (cut?.offset ?? 0), nodes: [...view.nodes, node] };
}

/** The axes of the output of a Reshape, Squeeze, Unsqueeze or Transpose of what has `axes`. */
export function moved(node: Node, axes: Axes): Axes | undefined {
  if (isOp(node, 'Transpose')) {
    const perm = node.attributes.ints('perm') ?? axes.map((_, i) => axes.length - 1 - i);
    return perm.map((axis) => axes[axis]);
  }
  const shape = node.output.type?.shape;
  return shape && isOp(node, 'Reshape', 'Squeeze', 'Unsqueeze') ? regrouped(axes.flat(), shape) : undefined;
}

/** The axes of [batch, length, columns]. */
export function rowAxes(batch: Dim, length: Dim, columns: number): Axes {
  const axes: Factor[] = [
    { of: 'batch', size: batch, stride: 0 },
    { of: 'length', size: length, stride: 0 },
    { of: 'column', size: columns, stride: 1 },
  ];
  return axes.map((factor) => (factor.size === 1 ? [] : [factor]));
}

export function isSameAxes(a: Axes, b: Axes): boolean {
  const text = (axes: Axes): string =>
    axes.map((factors) => factors.map(({ of, size, stride }) => `${of} ${size} ${stride}`).join()).join(';');
  return text(a) === text(b);
}

/** MatMul, Gemm, or Add of a bias behind a MatMul. */
function projectionOf(value: Value): View | undefined {
  const node = value.producer!;
  if (isOp(node, 'Add')) {
    const index = floatConstant(node.input(0)) ? 0 : 1;
    const bias = floatConstant(node.input(index));
    const inner = node.requiredInput(1 - index);
    const view = isOp(inner.producer, 'MatMul') ? projectionOf(inner) : undefined;
    if (!view || !bias || bias.size !== view.projection.weight.dims[1] || bias.dims.at(-1) !== bias.size)
      return undefined;
    const key = `${view.projection.key} ${node.requiredInput(index).name}`;
    return { ...view, projection: { ...view.projection, bias, key }, nodes: [...view.nodes, node] };
  }
  if (!isOp(node, 'MatMul', 'Gemm')) return undefined;
  const weightValue = node.requiredInput(1);
  const weight = floatConstant(weightValue);
  if (weight?.dims.length !== 2) return undefined;
  const { attributes } = node;
  const isTurned = isOp(node, 'Gemm') && attributes.int('transB', 0) !== 0;
  const bias = isOp(node, 'Gemm') ? node.input(2) : null;
  if (isOp(node, 'Gemm')) {
    const isPlain =
      attributes.float('alpha', 1) === 1 && attributes.float('beta', 1) === 1 && !attributes.int('transA', 0);
    const columns = weight.dims[isTurned ? 0 : 1];
    const isRow = !bias || (floatConstant(bias)?.size === columns && floatConstant(bias)?.dims.at(-1) === columns);
    if (!isPlain || !isRow) return undefined;
  }
  const rows = rowsOf(node.requiredInput(0));
  if (!rows) return undefined;
  const projection: Projection = {
    node,
    input: rows.input,
    weight: isTurned ? (transpose(weight, [1, 0]) as Tensor<'float32'>) : weight,
    weightValue: isTurned ? undefined : weightValue,
    bias: bias ? floatConstant(bias) : undefined,
    key: `${weightValue.name} ${isTurned} ${bias?.name}`,
  };
  const columns: Factor = { of: 'column', size: projection.weight.dims[1], stride: 1 };
  return { projection, axes: [...rows.outer, [columns]], offset: 0, scale: 1, nodes: [node] };
}

/** The tensor [batch, length, depth] that a matrix operand is, or is a reshape of, and its axes but the last. */
function rowsOf(value: Value): { input: Value; outer: Axes } | undefined {
  const { type, producer } = value;
  if (type?.dtype !== 'float32' || value.constant) return undefined;
  const { shape } = type;
  if (shape?.length === 3 && typeof shape[2] === 'number') {
    return { input: value, outer: rowAxes(shape[0], shape[1], shape[2]).slice(0, 2) };
  }
  if (shape?.length !== 2 || !isOp(producer, 'Reshape')) return undefined;
  const input = producer.requiredInput(0);
  const from = input.type?.shape;
  if (from?.length !== 3 || from[2] !== shape[1] || typeof from[2] !== 'number' || input.constant) return undefined;
  return { input, outer: [rowAxes(from[0], from[1], from[2]).slice(0, 2).flat()] };
}

/** What Split, Slice or Gather by one index takes of an axis of columns. */
function cutOf(node: Node, value: Value, { axes }: View): { axes: Axes; offset: number } | undefined {
  const axesInput = node.input(3);
  if (isOp(node, 'Slice') && !axesInput?.constant) return undefined;
  const wanted = isOp(node, 'Slice') ? integersOf(axesInput!.constant!) : [node.attributes.int('axis', 0)];
  if (wanted.length !== 1) return undefined;
  const axis = (wanted[0] + axes.length) % axes.length;
  const [factor, ...more] = axes[axis] ?? [];
  if (factor?.of !== 'column' || typeof factor.size !== 'number' || more.length > 0) return undefined;
  const range = rangeOf(node, value, factor.size, axis);
  if (!range) return undefined;
  const part = range.count === 1 ? [] : [{ ...factor, size: range.count }];
  const isPicked = isOp(node, 'Gather') && node.requiredInput(1).constant?.dims.length === 0;
  return {
    axes: isPicked ? axes.toSpliced(axis, 1) : axes.with(axis, part),
    offset: range.first * factor.stride,
  };
}

function rangeOf(node: Node, value: Value, size: number, axis: number): { first: number; count: number } | undefined {
  const counts = (values: readonly (Value | null)[]): (Dim | undefined)[] =>
    values.map((output) => output?.type?.shape?.[axis]);
  if (isOp(node, 'Split')) {
    const sizes = counts(node.outputs);
    const at = node.outputs.indexOf(value);
    if (sizes.some((count) => typeof count !== 'number')) return undefined;
    const first = (sizes as number[]).slice(0, at).reduce((a, b) => a + b, 0);
    return { first, count: sizes[at] as number };
  }
  const index = node.input(1)?.constant;
  if (index?.size !== 1) return undefined;
  const [start] = integersOf(index);
  const first = start < 0 ? start + size : start;
  if (first < 0 || first >= size) return undefined;
  if (isOp(node, 'Gather')) return { first, count: 1 };
  const steps = node.input(4);
  const [count] = counts([value]);
  if (typeof count !== 'number' || (steps && !(steps.constant && integersOf(steps.constant)[0] === 1)))
    return undefined;
  return { first, count };
}

/** Factors in row-major order as the axes of `shape`; axes of unknown size take what is left between the others. */
function regrouped(factors: readonly Factor[], shape: readonly Dim[]): Axes | undefined {
  const left = [...factors];
  const head: Factor[][] = [];
  const tail: Factor[][] = [];
  let [from, to] = [0, shape.length];
  for (; from < to; from++) {
    const axis = take(left, shape[from], 'front');
    if (!axis) break;
    head.push(axis);
  }
  for (; to > from; to--) {
    const axis = take(left, shape[to - 1], 'back');
    if (!axis) break;
    tail.unshift(axis);
  }
  if (to - from > 1 || (to === from && left.length > 0)) return undefined;
  // A number that factors of known sizes do not make up is no guess.
  if (to - from === 1 && typeof shape[from] === 'number' && left.every(({ size }) => typeof size === 'number'))
    return undefined;
  return [...head, ...(to > from ? [left] : []), ...tail];
}

/** Takes factors of `size` together off one end, cutting the last of them if it must; undefined, with nothing taken. */
function take(left: Factor[], size: Dim, end: 'front' | 'back'): Factor[] | undefined {
  const isFront = end === 'front';
  const taken: Factor[] = [];
  const rest: Factor[] = [];
  const next = (): Factor | undefined => left.at(isFront ? taken.length : -1 - taken.length);
  if (typeof size === 'string') {
    if (next()?.size !== size) return undefined;
    taken.push(next()!);
  }
  for (let need = typeof size === 'number' ? size : 1; need !== 1; ) {
    const factor = next();
    if (typeof factor?.size !== 'number') return undefined;
    if (need % factor.size === 0) {
      taken.push(factor);
      need /= factor.size;
      continue;
    }
    if (factor.of !== 'column' || factor.size % need !== 0) return undefined;
    const others = factor.size / need;
    const slow = { ...factor, size: isFront ? need : others, stride: factor.stride * (isFront ? others : need) };
    const fast = { ...factor, size: isFront ? others : need };
    taken.push(isFront ? slow : fast);
    rest.push(isFront ? fast : slow);
    break;
  }
  left.splice(isFront ? 0 : left.length - taken.length, taken.length, ...rest);
  return isFront ? taken : taken.reverse();
}
