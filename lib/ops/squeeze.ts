/** Squeeze (ai.onnx 1, 11, 13, 21): drops dimensions of 1; axes from an attribute before opset 13, from an input since. */
import type { Dim, Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { axesOf, modelError } from './families/inference';
import { integersOf } from './families/values';
import { defineView } from './families/views';

function axesGiven(node: Node, opset: number, parameter: Tensor | null | undefined): number[] | undefined {
  return opset < 13 ? node.attributes.ints('axes') : parameter ? integersOf(parameter) : undefined;
}

function squeeze<T extends Dim>(node: Node, shape: readonly T[], axes: readonly number[] | undefined): T[] {
  if (!axes) return shape.filter((dim) => dim !== 1);
  const dropped = axesOf(node, axes, shape.length);
  for (const axis of dropped) {
    if (typeof shape[axis] === 'number' && shape[axis] !== 1)
      throw modelError(node, 'size 1', `axis ${axis}`, shape[axis]);
  }
  return shape.filter((_, i) => !dropped.includes(i));
}

export const Squeeze = defineView({
  type: 'Squeeze',
  since: [1, 11, 13, 21],
  infer(context, shape) {
    const { node, opset } = context;
    const axes = axesGiven(node, opset, context.constant(1));
    // Without axes the rank depends on which sizes are 1, which symbols do not tell.
    const undecided = !axes && ((opset >= 13 && node.input(1)) || shape.some((dim) => typeof dim === 'string'));
    return undecided ? undefined : squeeze(node, shape, axes);
  },
  reshape: (node, opset, dims, parameter) => squeeze(node, dims, axesGiven(node, opset, parameter)),
});
