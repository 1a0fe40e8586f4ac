/** Gather (ai.onnx 1, 11, 13): slices of the data at given indices of one axis. */
import { sizeOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { axisOf } from './families/inference';
import { indicesInto } from './families/indices';
import { isNative } from './families/lowering';
import { pickAlong, split3 } from './families/strided';

export const Gather = defineOp({
  type: 'Gather',
  since: [1, 11, 13],
  quant: { kind: 'agnostic', table: true },
  inferShape(context) {
    const { dtype, shape } = context.input(0);
    const indices = context.input(1).shape;
    if (!shape || !indices) return [{ dtype }];
    const axis = axisOf(context.node, context.node.attributes.int('axis', 0), shape.length);
    return [{ dtype, shape: [...shape.slice(0, axis), ...indices, ...shape.slice(axis + 1)] }];
  },
  run([x, indices], { node }) {
    const axis = axisOf(node, node.attributes.int('axis', 0), x!.dims.length);
    const picked = pickAlong(x!, axis, indicesInto(node, indices!, x!.dims[axis]));
    return [picked.reshape([...x!.dims.slice(0, axis), ...indices!.dims, ...x!.dims.slice(axis + 1)])];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const indicesValue = node.requiredInput(1);
    const shape = context.shape(value);
    if (!isNative(context.dtype(value))) return false;
    const axis = axisOf(node, node.attributes.int('axis', 0), shape.length);
    const [outer, axisSize, inner] = split3(shape, axis);
    const constant = context.constant(indicesValue);
    const indices = constant && indicesInto(node, constant, axisSize);
    const view = { x: context.slot(value, 'row').id, outer, axisSize, inner };
    if (indices) {
      context.emit({ op: 'gather', ...view, y: context.output(node.output, 'row').id, indices });
      return true;
    }
    const count = sizeOf(context.shape(indicesValue));
    const indicesSlot = context.slot(indicesValue, 'row');
    const y = context.output(node.output, 'row');
    context.emit({ op: 'gather_dynamic', ...view, indices: indicesSlot.id, y: y.id, count });
    return true;
  },
});
