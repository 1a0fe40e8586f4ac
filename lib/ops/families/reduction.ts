/** Reductions over axes: the axes from attribute or input, a fold in double, and the native step where axes are adjacent. */
import type { ReduceStep } from '../../../binding';
import type { Dim, Node, Value } from '../../graph/graph';
import { sizeOf, stridesOf } from '../../tensor/shape';
import type { Tensor } from '../../tensor/tensor';
import { defineOp, type Layout, type LowerContext, type OpDefinition, type QuantTrait, type Slot } from '../define-op';
import { axesOf, unknownShape } from './inference';
import { existingLayout, physicalAxis, physicalOrder } from './lowering';
import { forEachRow } from './strided';
import { fromDoubles, integersOf, toDoubles } from './values';

export interface ReductionInit {
  type: string;
  since: readonly number[];
  /** The opset from which the axes are an input. */
  axesInputSince: number;
  initial: number;
  fold(accumulator: number, value: number): number;
  finish?(accumulator: number, count: number): number;
  kind?: ReduceStep['kind'];
  /** Emits the steps; default: one reduce step of `kind`. */
  emit?(context: LowerContext, x: Slot, y: Slot, view: { outer: number; axisSize: number; inner: number }): void;
  quant?: QuantTrait;
}

/** An operator that folds the elements along some axes (all, when none are given). */
export function defineReduction(init: ReductionInit): OpDefinition {
  const axesOfNode = (node: Node, opset: number, rank: number, axesInput: Tensor | null | undefined): number[] => {
    const axes = opset >= init.axesInputSince ? axesInput && integersOf(axesInput) : node.attributes.ints('axes');
    if (axes && axes.length > 0) return axesOf(node, axes, rank);
    return node.attributes.int('noop_with_empty_axes', 0) !== 0 ? [] : [...new Array(rank).keys()];
  };
  return defineOp({
    type: init.type,
    since: init.since,
    quant: init.quant,
    inferShape(context) {
      const { node, opset } = context;
      const { dtype, shape } = context.input(0);
      if (!shape) return [{ dtype }];
      const keep = node.attributes.int('keepdims', 1) !== 0;
      const dynamicAxes = opset >= init.axesInputSince && node.input(1) && !context.constant(1);
      if (dynamicAxes) return [keep ? { dtype, shape: unknownShape(context, shape.length) } : { dtype }];
      const axes = axesOfNode(node, opset, shape.length, context.constant(1));
      return [{ dtype, shape: reducedShape<Dim>(shape, axes, keep) }];
    },
    run([x, axesInput], { node, opset }) {
      const axes = axesOfNode(node, opset, x!.dims.length, axesInput);
      const keep = node.attributes.int('keepdims', 1) !== 0;
      // Nothing to reduce is the identity, except for what `fold` and `finish` do to a lone element (L2 takes the absolute).
      const folded = foldAxes(toDoubles(x!), x!.dims, axes, init);
      return [fromDoubles(x!.type, folded, reducedShape(x!.dims, axes, keep))];
    },
    lower(context) {
      const { node, opset } = context;
      const value = node.requiredInput(0);
      const axesValue = opset >= init.axesInputSince ? node.input(1) : null;
      const axesInput = context.constant(axesValue);
      if ((!init.kind && !init.emit) || context.dtype(value) !== 'float32' || (axesValue && !axesInput)) return false;
      const shape = context.shape(value);
      const axes = axesOfNode(node, opset, shape.length, axesInput);
      const view = reductionView(context, value, axes, node.attributes.int('keepdims', 1) !== 0);
      if (!view) return false;
      const x = context.slot(value, view.layout);
      const y = context.output(node.output, view.outputLayout);
      const { outer, axisSize, inner } = view;
      if (init.emit) init.emit(context, x, y, { outer, axisSize, inner });
      else context.emit({ op: 'reduce', kind: init.kind!, x: x.id, y: y.id, outer, axisSize, inner });
      return true;
    },
  });
}

function reducedShape<T extends Dim>(shape: readonly T[], axes: readonly number[], keep: boolean): (T | 1)[] {
  const reduced = new Set(axes);
  return keep ? shape.map((dim, i) => (reduced.has(i) ? 1 : dim)) : shape.filter((_, i) => !reduced.has(i));
}

function foldAxes(
  values: Float64Array,
  dims: readonly number[],
  axes: readonly number[],
  init: Pick<ReductionInit, 'initial' | 'fold' | 'finish'>,
): Float64Array {
  const kept = reducedShape(dims, axes, true);
  const count = sizeOf(axes.map((axis) => dims[axis]));
  const strides = stridesOf(kept).map((stride, i) => (kept[i] === 1 && dims[i] !== 1 ? 0 : stride));
  const out = new Float64Array(sizeOf(kept)).fill(init.initial);
  const length = dims[dims.length - 1] ?? 1;
  const step = strides[strides.length - 1] ?? 0;
  const { fold, finish } = init;
  forEachRow(dims, [strides], (at, [row]) => {
    for (let i = 0; i < length; i++) out[row + i * step] = fold(out[row + i * step], values[at + i]);
  });
  if (finish) for (let i = 0; i < out.length; i++) out[i] = finish(out[i], count);
  return out;
}

/**
 * The reduction as the middle of [outer, axisSize, inner] in a layout in which the axes are adjacent and the kept ones come
 * out in an order that some layout has. Undefined when there is none.
 */
function reductionView(
  context: LowerContext,
  value: Value,
  axes: readonly number[],
  keepDims: boolean,
): { layout: Layout; outputLayout: Layout; outer: number; axisSize: number; inner: number } | undefined {
  const shape = context.shape(value);
  const rank = shape.length;
  const layouts: Layout[] = existingLayout(context, value) === 'nhwc' ? ['nhwc', 'row'] : ['row'];
  for (const layout of layouts) {
    const physical = axes.map((axis) => physicalAxis(axis, rank, layout)).sort((a, b) => a - b);
    const adjacent = physical.every((axis, i) => axis === physical[0] + i);
    const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis) && shape[axis] !== 1);
    const positions = kept.map((axis) => physicalAxis(axis, rank, layout));
    const ordered = positions.every((p, i) => i === 0 || p > positions[i - 1]);
    if (!adjacent || physical.length === 0 || (!keepDims && !ordered)) continue;
    const dims = physicalOrder(shape, layout);
    const [first, last] = [physical[0], physical[physical.length - 1]];
    return {
      layout,
      outputLayout: keepDims ? layout : 'row',
      outer: sizeOf(dims.slice(0, first)),
      axisSize: sizeOf(dims.slice(first, last + 1)),
      inner: sizeOf(dims.slice(last + 1)),
    };
  }
  return undefined;
}
