/** Operators that only change the shape: their output is the memory of their input. */
import type { Dim } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import { defineOp, type InferContext, type LowerContext, type OpDefinition } from '../define-op';
import type { Shape } from './inference';
import { existingLayout, isNative } from './lowering';
import type { Node } from '../../graph/graph';

/** Gives output 0 the memory of input 0, in row order. */
export function lowerView(context: LowerContext): boolean {
  const { node } = context;
  const value = node.requiredInput(0);
  if (!isNative(context.dtype(value))) return false;
  context.alias(node.output, context.slot(value, 'row'), 'row');
  return true;
}

/** Gives output 0 the memory of input 0 in the layout at hand; shapes are equal. */
export function lowerIdentity(context: LowerContext): boolean {
  const { node } = context;
  const value = node.requiredInput(0);
  if (!isNative(context.dtype(value))) return false;
  const layout = existingLayout(context, value);
  context.alias(node.output, context.slot(value, layout), layout);
  return true;
}

/** An operator whose output is input 0 under another shape. */
export function defineView(init: {
  type: string;
  since: readonly number[];
  infer(context: InferContext, shape: readonly Dim[]): Shape;
  /** The new dims; `parameter` is input 1. */
  reshape(node: Node, opset: number, dims: readonly number[], parameter: Tensor | null): number[];
}): OpDefinition {
  return defineOp({
    type: init.type,
    since: init.since,
    quant: { kind: 'agnostic' },
    inferShape(context) {
      const { dtype, shape } = context.input(0);
      return [{ dtype, shape: shape && init.infer(context, shape) }];
    },
    run([x, parameter], { node, opset }) {
      return [x!.reshape(init.reshape(node, opset, x!.dims, parameter ?? null))];
    },
    lower: lowerView,
  });
}
