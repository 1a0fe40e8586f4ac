/** Concat (ai.onnx 4, 11, 13): joins tensors along an axis. */
import type { Dim, Node, Value } from '../graph/graph';
import { defineOp, type InferContext, type Layout, type LowerContext } from './define-op';
import { axisOf, conflicts, modelError } from './families/inference';
import { existingLayout, extent, isNative, physicalAxis, physicalOrder } from './families/lowering';
import { concat } from './families/strided';

/** Shape of the concatenation of the inputs at `indices` along the node's axis. */
export function inferConcat(context: InferContext, indices: readonly number[]): Dim[] | undefined {
  const { node } = context;
  const axisAttribute = node.attributes.int('axis');
  if (axisAttribute === undefined) throw modelError(node, 'an integer', 'axis', 'nothing');
  if (indices.length === 0) throw modelError(node, 'one or more', 'inputs', 0);
  const shapes = indices.map((i) => context.input(i).shape);
  const known = shapes.filter((shape) => shape !== undefined);
  if (known.length === 0) return undefined;
  const rank = known[0].length;
  const axis = axisOf(node, axisAttribute, rank);
  checkJoinable(node, axis, known);
  return Array.from({ length: rank }, (_, i) => {
    const dims = known.map((shape) => shape[i]);
    if (i !== axis) return dims.find((dim) => typeof dim === 'number') ?? dims[0];
    if (known.length < shapes.length || dims.some((dim) => typeof dim === 'string')) {
      return shapes.length === 1 ? dims[0] : context.unknownDim();
    }
    return (dims as number[]).reduce((sum, dim) => sum + dim, 0);
  });
}

/** Refuses shapes that certainly differ in rank or off the axis. */
export function checkJoinable(node: Node, axis: number, shapes: readonly (readonly Dim[])[]): void {
  const [first] = shapes;
  const fits = shapes.every(
    (shape) => shape.length === first.length && !shape.some((dim, i) => i !== axis && conflicts(dim, first[i])),
  );
  if (fits) return;
  const received = shapes.map((shape) => `[${shape.join(', ')}]`).join(' and ');
  throw modelError(node, `shapes that agree except on axis ${axis}`, 'the inputs', received);
}

/** Emits the concatenation of values, each through its table if it has one, into output 0. */
export function lowerConcat(
  context: LowerContext,
  values: readonly Value[],
  tables: readonly (Uint8Array | null)[],
): boolean {
  const { node } = context;
  const shape = context.shape(node.output);
  const axis = axisOf(node, node.attributes.int('axis', 0), shape.length);
  if (!isNative(context.dtype(values[0]))) return false;
  const layout: Layout = values.some((value) => existingLayout(context, value) === 'nhwc') ? 'nhwc' : 'row';
  const at = physicalAxis(axis, shape.length, layout);
  const inners = values.map((value) => extent(physicalOrder(context.shape(value), layout), at));
  const ends = inners.map((_, i) => inners.slice(0, i + 1).reduce((a, b) => a + b));
  context.emit({
    op: 'concat',
    inputs: values.map((value) => context.slot(value, layout).id),
    y: context.output(node.output, layout).id,
    outer: extent(physicalOrder(shape, layout), 0, at),
    inners,
    offsets: ends.map((end, i) => end - inners[i]),
    row: ends[ends.length - 1],
    tables: [...tables],
  });
  return true;
}

export const Concat = defineOp({
  type: 'Concat',
  since: [4, 11, 13],
  quant: { kind: 'elementwise', selects: 'optional' },
  inferShape(context) {
    const shape = inferConcat(context, [...context.node.inputs.keys()]);
    return [{ dtype: context.input(0).dtype, shape }];
  },
  run(inputs, { node }) {
    const axis = axisOf(node, node.attributes.int('axis', 0), inputs[0]!.dims.length);
    checkJoinable(
      node,
      axis,
      inputs.map((t) => t!.dims),
    );
    return [
      concat(
        inputs[0]!.type,
        inputs.map((t) => t!),
        axis,
      ),
    ];
  },
  lower(context) {
    const values = context.node.inputs.map((_, i) => context.node.requiredInput(i));
    return lowerConcat(
      context,
      values,
      values.map(() => null),
    );
  },
});
