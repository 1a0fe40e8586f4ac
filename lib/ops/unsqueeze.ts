/** Unsqueeze (ai.onnx 1, 11, 13, 21): inserts dimensions of 1; axes from an attribute before opset 13, from an input since. */
import type { Dim, Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { axesOf, modelError, unknownShape } from './families/inference';
import { integersOf } from './families/values';
import { defineView } from './families/views';

function unsqueeze<T extends Dim>(
  node: Node,
  opset: number,
  shape: readonly T[],
  parameter: Tensor | null | undefined,
): (T | 1)[] {
  const axes = opset < 13 ? node.attributes.ints('axes') : parameter ? integersOf(parameter) : undefined;
  if (!axes) throw modelError(node, 'a list', 'axes', 'nothing');
  const inserted = new Set(axesOf(node, axes, shape.length + axes.length));
  const rest = shape[Symbol.iterator]();
  return Array.from({ length: shape.length + axes.length }, (_, i) => (inserted.has(i) ? 1 : (rest.next().value as T)));
}

export const Unsqueeze = defineView({
  type: 'Unsqueeze',
  since: [1, 11, 13, 21],
  infer(context, shape) {
    const { node, opset } = context;
    if (opset >= 13 && !context.constant(1)) {
      const count = context.input(1).shape?.[0];
      return typeof count === 'number' ? unknownShape(context, shape.length + count) : undefined;
    }
    return unsqueeze(node, opset, shape, context.constant(1));
  },
  reshape: (node, opset, dims, parameter) => unsqueeze(node, opset, dims, parameter),
});
