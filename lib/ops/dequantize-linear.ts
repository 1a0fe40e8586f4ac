/**
 * DequantizeLinear (ai.onnx 10, 13, 19, 21, 23; com.microsoft 1): codes to real values, per tensor, per axis or per block.
 * The result has the type of the scale.
 */
import { type DType, dtypeFromOnnx } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { defineOp, type InferContext, type OpDefinition } from './define-op';
import { axisOf, shapeAs } from './families/inference';
import { forEachScaled } from './families/granularity';
import { existingLayout, physicalAxis, physicalOrder } from './families/lowering';
import { spread } from './families/quantization';
import { split3 } from './families/strided';
import { fromDoubles, toDoubles } from './families/values';
import type { Node } from '../graph/graph';

const { fround } = Math;

function outputType(node: Node, scale: DType): DType {
  const code = node.attributes.int('output_dtype', 0);
  return code === 0 ? scale : dtypeFromOnnx(code, `attribute "output_dtype" of node "${node.name}"`);
}

export const DequantizeLinear = defineOp({
  type: 'DequantizeLinear',
  since: [10, 13, 19, 21, 23, 24, 25],
  inferShape: (context: InferContext) => [shapeAs(context, outputType(context.node, context.input(1).dtype))],
  run([x, scale, zeroPoint], { node }) {
    const values = toDoubles(x!);
    const scales = toDoubles(scale!);
    const zeros = spread(node, 'the zero point', zeroPoint, scales.length);
    forEachScaled(node, x!.dims, scale!, (i, p) => {
      values[i] = fround(fround(values[i] - zeros[p]) * scales[p]);
    });
    return [fromDoubles(outputType(node, scale!.type), values, x!.dims)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const dtype = context.dtype(value);
    const zeroValue = node.input(2);
    const scale = context.constant(node.requiredInput(1));
    const zero = context.constant(zeroValue);
    if (scale?.type !== 'float32' || outputType(node, 'float32') !== 'float32' || (zeroValue && !zero)) return false;
    if ((dtype !== 'uint8' && dtype !== 'int8' && dtype !== 'int32') || node.attributes.int('block_size', 0) !== 0)
      return false;
    const shape = context.shape(value);
    const layout = existingLayout(context, value);
    const axis = scale.size === 1 ? -1 : axisOf(node, node.attributes.int('axis', 1), shape.length);
    const [outer, axisSize, inner] =
      axis < 0 ? [1, 1, sizeOf(shape)] : split3(physicalOrder(shape, layout), physicalAxis(axis, shape.length, layout));
    context.emit({
      op: 'dequantize',
      x: context.slot(value, layout).id,
      y: context.output(node.output, layout).id,
      scale: Float32Array.from(spread(node, 'the scale', scale, axisSize)),
      zeroPoint: Int32Array.from(spread(node, 'the zero point', zero, axisSize)),
      outer,
      axisSize,
      inner,
    });
    return true;
  },
});

export const MicrosoftDequantizeLinear: OpDefinition = { ...DequantizeLinear, domain: 'com.microsoft', since: [1] };
