/** DepthToSpace and SpaceToDepth: a transpose of six axes between two reshapes. */
import type { Dim, Node } from '../../graph/graph';
import { defineOp, type OpDefinition } from '../define-op';
import { modelError, shapeOfRank } from './inference';
import { existingLayout, isNative, logicalStrides, physicalOrder } from './lowering';
import { stridedCopy } from './strided';

/** Block size, at least 1. */
export function blockSizeOf(node: Node): number {
  const block = node.attributes.int('blocksize');
  if (block === undefined || block < 1) throw modelError(node, 'a positive integer', 'blocksize', block);
  return block;
}

interface Move {
  /** Output [N, C, H, W]. */
  dims: number[];
  /** For output axes N, C, H, W: the factors they consist of, outermost first, as [size, stride]. */
  factors: [number, number][][];
}

/** An operator that moves blocks of pixels to channels or back. `plan` gets the shape and the strides of the input. */
export function defineBlockMove(init: {
  type: string;
  since: readonly number[];
  infer(node: Node, shape: readonly Dim[], unknown: () => Dim): Dim[];
  plan(node: Node, shape: readonly number[], strides: readonly number[]): Move;
}): OpDefinition {
  return defineOp({
    type: init.type,
    since: init.since,
    quant: { kind: 'agnostic' },
    inferShape(context) {
      const { dtype } = context.input(0);
      const shape = shapeOfRank(context, 0, 4);
      return [{ dtype, shape: shape && init.infer(context.node, shape, () => context.unknownDim()) }];
    },
    run([x], { node }) {
      const { dims, factors } = init.plan(node, x!.dims, logicalStrides(x!.dims, 'row'));
      const flat = factors.flat();
      return [
        stridedCopy(
          x!,
          flat.map(([size]) => size),
          flat.map(([, stride]) => stride),
        ).reshape(dims),
      ];
    },
    lower(context) {
      const { node } = context;
      const value = node.requiredInput(0);
      if (!isNative(context.dtype(value))) return false;
      const layout = existingLayout(context, value);
      const shape = context.shape(value);
      const flat = physicalOrder(init.plan(node, shape, logicalStrides(shape, layout)).factors, layout).flat();
      context.emit({
        op: 'strided_copy',
        x: context.slot(value, layout).id,
        y: context.output(node.output, layout).id,
        shape: flat.map(([size]) => size),
        strides: flat.map(([, stride]) => stride),
        offset: 0,
      });
      return true;
    },
  });
}

/** A dimension times or divided by blocks; unknown when it is a symbol. */
export function scaleDim(dim: Dim, scale: (size: number) => number, unknown: () => Dim): Dim {
  return typeof dim === 'number' ? scale(dim) : unknown();
}
