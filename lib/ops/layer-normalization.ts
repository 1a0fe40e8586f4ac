/** LayerNormalization (ai.onnx 17): (x - mean) / sqrt(var + epsilon) * scale + bias over the axes from `axis` on. */
import type { Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, typeOf } from './families/inference';
import { NORMALIZATION_TRAIT, normalizeRows } from './families/normalization';
import { fromDoubles, toDoubles } from './families/values';
import { combine } from './families/elementwise';

function epsilonOf(node: Node): number {
  return Math.fround(node.attributes.float('epsilon', 1e-5));
}

export const LayerNormalization = defineOp({
  type: 'LayerNormalization',
  since: [17],
  quant: NORMALIZATION_TRAIT,
  inferShape(context) {
    const { node } = context;
    const { dtype, shape } = context.input(0);
    const axis = shape && axisOf(node, node.attributes.int('axis', -1), shape.length);
    const statistics = shape?.map((dim, i) => (i < axis! ? dim : 1));
    return [typeOf(context), { dtype, shape: statistics }, { dtype, shape: statistics }];
  },
  run([x, scale, bias], { node, outputCount }) {
    const { dims, type } = x!;
    const axis = axisOf(node, node.attributes.int('axis', -1), dims.length);
    const { values, means, inverses } = normalizeRows(toDoubles(x!), sizeOf(dims.slice(axis)), epsilonOf(node));
    const times = { float: (a: number, b: number) => a * b };
    const plus = { float: (a: number, b: number) => a + b };
    const wide = (t: Tensor): Tensor => fromDoubles('float64', toDoubles(t), t.dims);
    let y: Tensor = combine(fromDoubles('float64', values, dims), wide(scale!), times, node);
    if (bias) y = combine(y, wide(bias), plus, node);
    const statistics = dims.map((dim, i) => (i < axis ? dim : 1));
    return [
      fromDoubles(type, y.data as Float64Array, dims),
      ...[means, inverses].slice(0, outputCount - 1).map((values) => fromDoubles(type, values, statistics)),
    ];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const scaleValue = node.requiredInput(1);
    const biasValue = node.input(2);
    const shape = context.shape(value);
    if (context.dtype(value) !== 'float32' || node.outputs[1] || node.outputs[2]) return false;
    const axis = axisOf(node, node.attributes.int('axis', -1), shape.length);
    const size = sizeOf(shape.slice(axis));
    const fits = [scaleValue, biasValue].every((v) => !v || sizeOf(context.shape(v)) === size);
    if (!fits) return false;
    const x = context.slot(value, 'row');
    const scale = context.slot(scaleValue, 'row');
    const bias = biasValue && context.slot(biasValue, 'row');
    const y = context.output(node.output, 'row');
    context.emit({
      op: 'layer_norm',
      x: x.id,
      scale: scale.id,
      bias: bias?.id ?? null,
      y: y.id,
      outer: sizeOf(shape.slice(0, axis)),
      size,
      epsilon: epsilonOf(node),
    });
    return true;
  },
});
