/**
 * What shape inference functions share: errors that name the node, axes, and arithmetic on dimensions of which some are
 * symbolic. A symbolic dimension is kept wherever the result is certain; otherwise the result is a fresh unknown.
 */
import { expected, type Q8Error } from '../../errors';
import type { Dim, Node, ValueType } from '../../graph/graph';
import type { DType } from '../../tensor/dtype';
import type { InferContext } from '../define-op';

export type Shape = readonly Dim[] | undefined;

/** The ERR_Q8_BAD_MODEL error about an attribute or input of a node; for `throw modelError(...)`. */
export function modelError(node: Node, rule: string, name: string, received: unknown, hint?: string): Q8Error {
  return expected(rule, `${name} of node "${node.name}" (${node.op})`, received, {
    code: 'ERR_Q8_BAD_MODEL',
    node: node.name,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Axis in 0..rank-1; negative ones count from the end. */
export function axisOf(node: Node, axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= rank) {
    throw modelError(node, `an axis in [${-rank}, ${rank - 1}]`, 'axis', axis);
  }
  return at;
}

/** Distinct axes, ascending. */
export function axesOf(node: Node, axes: readonly number[], rank: number): number[] {
  const unique = new Set(axes.map((axis) => axisOf(node, axis, rank)));
  if (unique.size !== axes.length) throw modelError(node, 'distinct axes', 'axes', axes);
  return [...unique].sort((a, b) => a - b);
}

/** The type of input `index`, as it is. */
export function typeOf(context: InferContext, index = 0): ValueType {
  const { dtype, shape } = context.input(index);
  return { dtype, shape };
}

/** `dtype` with the shape of input `index`. */
export function shapeAs(context: InferContext, dtype: DType, index = 0): ValueType {
  return { dtype, shape: context.input(index).shape };
}

/** A shape of which only the rank is known. */
export function unknownShape(context: InferContext, rank: number): Dim[] {
  return Array.from({ length: rank }, () => context.unknownDim());
}

/**
 * The smaller of a number and a named size, as a slice of a table up to that size has. Nothing that a model may declare; but
 * equal ones are recognized, and broadcasting with the named size gives that size: beyond the number it would fail.
 */
export function smallerOf(size: number, name: string): Dim {
  return `?min(${size}, ${name})`;
}

function isSmallerOf(dim: string, name: string): boolean {
  return /^\?min\((\d+), (.*)\)$/.exec(dim)?.[2] === name && !dim.startsWith('?min(1,');
}

/** numpy broadcasting of shapes with symbolic dimensions; undefined when some rank is unknown. */
export function broadcastDims(context: InferContext, shapes: readonly Shape[]): Shape {
  if (shapes.some((shape) => shape === undefined)) return undefined;
  const known = shapes as (readonly Dim[])[];
  const rank = Math.max(0, ...known.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, i) => {
    let result: Dim = 1;
    for (const shape of known) {
      const dim = shape[i - rank + shape.length] ?? 1;
      if (dim === 1 || dim === result) continue;
      if (result === 1) result = dim;
      else if (typeof dim === 'number') {
        if (typeof result === 'number') {
          throw modelError(
            context.node,
            'shapes that broadcast',
            'inputs',
            known.map((s) => `[${s.join(', ')}]`).join(' and '),
          );
        }
        result = dim;
      } else if (typeof result === 'string' && !isSmallerOf(dim, result)) {
        result = isSmallerOf(result, dim) ? dim : context.unknownDim();
      }
    }
    return result;
  });
}

/** The product of dimensions: a number, the one symbol if all others are 1, or a fresh unknown. */
export function productOf(context: InferContext, dims: readonly Dim[]): Dim {
  let size = 1;
  const symbols: string[] = [];
  for (const dim of dims) {
    if (typeof dim === 'number') size *= dim;
    else symbols.push(dim);
  }
  if (symbols.length === 0 || size === 0) return size;
  return symbols.length === 1 && size === 1 ? symbols[0] : context.unknownDim();
}

/** The shape of input `index`, checked to have `rank` dimensions (any of several) when it is known. */
export function shapeOfRank(context: InferContext, index: number, ...ranks: number[]): Shape {
  const { shape } = context.input(index);
  if (shape && !ranks.includes(shape.length)) {
    throw modelError(context.node, `rank ${ranks.join(' or ')}`, `input ${index}`, `shape [${shape.join(', ')}]`);
  }
  return shape;
}

/** Refuses an input whose dtype is not in `allowed`. */
export function checkType(context: InferContext, index: number, ...allowed: DType[]): DType {
  const { dtype } = context.input(index);
  if (!allowed.includes(dtype)) {
    throw modelError(context.node, `type ${allowed.join(' or ')}`, `input ${index}`, dtype);
  }
  return dtype;
}

/** Whether two dimensions are certainly different. */
export function conflicts(a: Dim, b: Dim): boolean {
  return typeof a === 'number' && typeof b === 'number' && a !== b;
}
