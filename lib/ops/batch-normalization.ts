/**
 * BatchNormalization (ai.onnx 7, 9, 14, 15) in inference form: (x - mean) / sqrt(var + epsilon) * scale + bias per channel
 * (axis 1). Training mode is refused.
 */
import type { Node } from '../graph/graph';
import { broadcastStrides, sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, typeOf } from './families/inference';
import { existingLayout, physicalAxis, physicalOrder } from './families/lowering';
import { NORMALIZATION_TRAIT } from './families/normalization';
import { fromDoubles, toDoubles } from './families/values';

/** The operator as x * factor[c] + offset[c]. */
function affine(
  node: Node,
  parameters: readonly Tensor[],
  channels: number,
): { factor: Float64Array; offset: Float64Array } {
  for (const [i, parameter] of parameters.entries()) {
    if (parameter.size !== channels)
      throw modelError(node, `${channels} elements`, `input ${i + 1}`, `${parameter.size} elements`);
  }
  const [scale, bias, mean, variance] = parameters.map(toDoubles);
  const epsilon = Math.fround(node.attributes.float('epsilon', 1e-5));
  const factor = scale.map((s, c) => s / Math.sqrt(variance[c] + epsilon));
  return { factor, offset: bias.map((b, c) => b - mean[c] * factor[c]) };
}

export const BatchNormalization = defineOp({
  type: 'BatchNormalization',
  since: [7, 9, 14, 15],
  quant: NORMALIZATION_TRAIT,
  inferShape(context) {
    if (context.node.attributes.int('training_mode', 0) !== 0)
      throw modelError(context.node, '0 (inference)', 'training_mode', 1);
    return [typeOf(context)];
  },
  run([x, ...parameters], { node }) {
    const channels = x!.dims[1] ?? 1;
    const { factor, offset } = affine(node, parameters as Tensor[], channels);
    const values = toDoubles(x!);
    const plane = sizeOf(x!.dims.slice(2));
    for (let i = 0; i < values.length; i++) {
      const c = Math.floor(i / plane) % channels;
      values[i] = values[i] * factor[c] + offset[c];
    }
    return [fromDoubles(x!.type, values, x!.dims)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const parameters = [1, 2, 3, 4].map((i) => context.constant(node.input(i)));
    const shape = context.shape(value);
    if (context.dtype(value) !== 'float32' || shape.length < 2 || parameters.some((p) => !p)) return false;
    const { factor, offset } = affine(node, parameters as Tensor[], shape[1]);
    const layout = existingLayout(context, value);
    const physical = physicalOrder(shape, layout);
    const channelAxis = physicalAxis(1, shape.length, layout);
    const perChannel = physical.map((_, axis) => (axis === channelAxis ? 1 : 0));
    const dense = broadcastStrides(physical, physical);
    const product = context.temporary('float32', physical);
    const y = context.output(node.output, layout);
    const common = { op: 'binary', shape: physical, aStrides: dense, bStrides: perChannel } as const;
    const constant = (values: Float64Array): number =>
      context.constantSlot(new Tensor('float32', Float32Array.from(values))).id;
    context.emit({ ...common, kind: 'mul', a: context.slot(value, layout).id, b: constant(factor), y: product.id });
    context.emit({ ...common, kind: 'add', a: product.id, b: constant(offset), y: y.id });
    return true;
  },
});
