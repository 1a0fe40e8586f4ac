/** Softmax (ai.onnx 1, 11, 13): along one axis since 13; before, over all axes from `axis` on, as one. */
import type { Node } from '../graph/graph';
import { defineOp } from './define-op';
import { axisOf, typeOf } from './families/inference';
import { existingLayout, physicalAxis, physicalOrder } from './families/lowering';
import { softmaxView, softmax } from './families/softmax';
import { split3 } from './families/strided';
import { fromDoubles, toDoubles } from './families/values';

function axisAttribute(node: Node, opset: number): number {
  return node.attributes.int('axis', opset < 13 ? 1 : -1);
}

/** Whether NaN becomes 0: set by fuse-softmax-guard, inside sessions only. */
function isGuarded(node: Node): boolean {
  return node.attributes.int('q8_guarded', 0) !== 0;
}

export const Softmax = defineOp({
  type: 'Softmax',
  since: [1, 11, 13],
  quant: { kind: 'fixed', range: () => [0, 1] },
  inferShape(context) {
    const { shape } = context.input(0);
    if (shape && shape.length > 0) axisOf(context.node, axisAttribute(context.node, context.opset), shape.length);
    return [typeOf(context)];
  },
  run([x], { node, opset }) {
    const view = softmaxView(node, x!.dims, axisAttribute(node, opset), opset);
    const y = softmax(toDoubles(x!), view);
    return [fromDoubles(x!.type, isGuarded(node) ? y.map((v) => (Number.isNaN(v) ? 0 : v)) : y, x!.dims)];
  },
  lower(context) {
    const { node, opset } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    if (context.dtype(value) !== 'float32' || shape.length === 0) return false;
    const guarded = isGuarded(node);
    if (opset < 13) {
      const [outer, axisSize, inner] = softmaxView(node, shape, axisAttribute(node, opset), opset);
      const x = context.slot(value, 'row');
      context.emit({
        op: 'softmax',
        x: x.id,
        y: context.output(node.output, 'row').id,
        outer,
        axisSize,
        inner,
        guarded,
      });
      return true;
    }
    const layout = existingLayout(context, value);
    const axis = physicalAxis(axisOf(node, axisAttribute(node, opset), shape.length), shape.length, layout);
    const [outer, axisSize, inner] = split3(physicalOrder(shape, layout), axis);
    const x = context.slot(value, layout);
    context.emit({
      op: 'softmax',
      x: x.id,
      y: context.output(node.output, layout).id,
      outer,
      axisSize,
      inner,
      guarded,
    });
    return true;
  },
});
