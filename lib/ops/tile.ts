/** Tile (ai.onnx 6, 13): repeats the input along every axis. */
import type { Node } from '../graph/graph';
import { stridesOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { modelError, unknownShape } from './families/inference';
import { isNative } from './families/lowering';
import { stridedCopy } from './families/strided';
import { integersOf } from './families/values';

function checkRepeats(node: Node, repeats: readonly number[], rank: number): void {
  if (repeats.length === rank && repeats.every((r) => r >= 0)) return;
  throw modelError(node, `${rank} integers >= 0`, 'repeats', repeats);
}

/** Each axis as two, [repeat, size], of which the first does not move in the input. */
function view(shape: readonly number[], repeats: readonly number[]): { shape: number[]; strides: number[] } {
  const strides = stridesOf(shape);
  return { shape: shape.flatMap((dim, i) => [repeats[i], dim]), strides: strides.flatMap((stride) => [0, stride]) };
}

export const Tile = defineOp({
  type: 'Tile',
  since: [6, 13],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { dtype, shape } = context.input(0);
    const constant = context.constant(1);
    if (!shape) return [{ dtype }];
    if (!constant) return [{ dtype, shape: unknownShape(context, shape.length) }];
    const repeats = integersOf(constant);
    checkRepeats(context.node, repeats, shape.length);
    return [
      {
        dtype,
        shape: shape.map((dim, i) =>
          typeof dim === 'number' ? dim * repeats[i] : repeats[i] === 1 ? dim : context.unknownDim(),
        ),
      },
    ];
  },
  run([x, repeatsInput], { node }) {
    const repeats = integersOf(repeatsInput!);
    checkRepeats(node, repeats, x!.dims.length);
    const { shape, strides } = view(x!.dims, repeats);
    return [stridedCopy(x!, shape, strides).reshape(x!.dims.map((dim, i) => dim * repeats[i]))];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    if (!isNative(context.dtype(value))) return false;
    const shape = context.shape(value);
    const output = context.shape(node.output);
    if (shape.length > 4) return false;
    const tiled = view(
      shape,
      output.map((dim, i) => dim / shape[i]),
    );
    const x = context.slot(value, 'row');
    context.emit({ op: 'strided_copy', x: x.id, y: context.output(node.output, 'row').id, ...tiled, offset: 0 });
    return true;
  },
});
