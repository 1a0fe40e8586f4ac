/** Clip (ai.onnx 6, 11, 12, 13): clamp to [min, max], from attributes before opset 11 and from inputs since. */
import type { Node } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { combine, lowerUnary } from './families/elementwise';
import { modelError, typeOf } from './families/inference';
import { scalarOf } from './families/values';

/** Bounds as tensors of the type of x; null when there is none. */
function attributeBounds(node: Node, x: Tensor): [Tensor | null, Tensor | null] {
  const bound = (name: string): Tensor | null => {
    const value = node.attributes.float(name);
    return value === undefined ? null : new Tensor<'float32' | 'float64'>(x.type as 'float32', [value], []);
  };
  return [bound('min'), bound('max')];
}

function checkScalar(node: Node, name: string, bound: Tensor | null | undefined): void {
  if (bound && bound.size !== 1) throw modelError(node, 'one element', name, `${bound.size} elements`);
}

export const Clip = defineOp({
  type: 'Clip',
  since: [6, 11, 12, 13],
  quant: { kind: 'clamp' },
  inferShape: (context) => [typeOf(context)],
  run([x, minInput, maxInput], { node, opset }) {
    const [min, max] = opset < 11 ? attributeBounds(node, x!) : [minInput, maxInput];
    checkScalar(node, 'min', min);
    checkScalar(node, 'max', max);
    let y = x!;
    if (min) {
      y = combine(
        y,
        min.reshape([]),
        { float: (v, low) => (v < low ? low : v), big: (v, low) => (v < low ? low : v) },
        node,
      );
    }
    if (max) {
      y = combine(
        y,
        max.reshape([]),
        { float: (v, top) => (v > top ? top : v), big: (v, top) => (v > top ? top : v) },
        node,
      );
    }
    return [y];
  },
  lower(context) {
    const { node, opset } = context;
    let alpha = Number.NEGATIVE_INFINITY;
    let beta = Number.POSITIVE_INFINITY;
    if (opset < 11) {
      alpha = node.attributes.float('min', alpha);
      beta = node.attributes.float('max', beta);
    } else {
      const [min, max] = [node.input(1), node.input(2)];
      const [low, high] = [context.constant(min), context.constant(max)];
      if ((min && !low) || (max && !high)) return false;
      checkScalar(node, 'min', low);
      checkScalar(node, 'max', high);
      if (low) alpha = scalarOf(low);
      if (high) beta = scalarOf(high);
    }
    return lowerUnary(context, 'clip', { alpha, beta });
  },
});
