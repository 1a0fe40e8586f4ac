/**
 * QuantizeLinear (ai.onnx 10, 13, 19, 21, 23; com.microsoft 1): real values to codes of 4, 8 or 16 bits, per tensor, per axis
 * or per block.
 */
import type { Node } from '../graph/graph';
import { allocate, type CodeDType, codeRange, type DType, dtypeFromOnnx, isCodeDType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp, type OpDefinition } from './define-op';
import { axisOf, modelError, shapeAs } from './families/inference';
import { forEachScaled } from './families/granularity';
import { wantsNhwc } from './families/layout-preference';
import { existingLayout, hasChannelsLast, physicalAxis, physicalOrder } from './families/lowering';
import { quantizeCode, spread } from './families/quantization';
import { split3 } from './families/strided';
import { scalarOf, toDoubles } from './families/values';

/** The zero point's type decides; without one the attribute, and uint8 by default. */
function outputType(node: Node, zeroPoint: DType | undefined): CodeDType {
  const code = node.attributes.int('output_dtype', 0);
  const dtype =
    zeroPoint ?? (code === 0 ? 'uint8' : dtypeFromOnnx(code, `attribute "output_dtype" of node "${node.name}"`));
  if (!isCodeDType(dtype)) throw modelError(node, 'an integer type of 4, 8 or 16 bits', 'the output type', dtype);
  return dtype;
}

export const QuantizeLinear = defineOp({
  type: 'QuantizeLinear',
  since: [10, 13, 19, 21, 23, 24, 25],
  inferShape: (context) => [shapeAs(context, outputType(context.node, context.optionalInput(2)?.dtype))],
  run([x, scale, zeroPoint], { node }) {
    const dtype = outputType(node, zeroPoint?.type);
    const [min, max] = codeRange(dtype);
    const values = toDoubles(x!);
    const scales = toDoubles(scale!);
    const zeros = spread(node, 'the zero point', zeroPoint, scales.length);
    const out = allocate(dtype, values.length) as Uint8Array;
    forEachScaled(node, x!.dims, scale!, (i, p) => {
      out[i] = quantizeCode(values[i], scales[p], zeros[p], min, max);
    });
    return [new Tensor<DType>(dtype, out, x!.dims)];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const zeroValue = node.input(2);
    const scale = context.constant(node.requiredInput(1));
    const zero = context.constant(zeroValue);
    const dtype = outputType(node, zero?.type);
    if (context.dtype(value) !== 'float32' || !scale || scale.type !== 'float32' || (zeroValue && !zero)) return false;
    if ((dtype !== 'uint8' && dtype !== 'int8') || node.attributes.int('block_size', 0) !== 0) return false;
    const shape = context.shape(value);
    const rank = shape.length;
    const layout = existingLayout(context, value);
    if (scale.size === 1 && layout === 'row' && hasChannelsLast(rank) && wantsNhwc(node.output)) {
      context.emit({
        op: 'quantize_nhwc',
        x: context.slot(value, 'row').id,
        y: context.output(node.output, 'nhwc').id,
        scale: scalarOf(scale),
        zeroPoint: zero ? scalarOf(zero) : 0,
        batch: shape[0],
        channels: shape[1],
        spatial: sizeOf(shape.slice(2)),
      });
      return true;
    }
    const axis = scale.size === 1 ? -1 : axisOf(node, node.attributes.int('axis', 1), rank);
    const [outer, axisSize, inner] =
      axis < 0 ? [1, 1, sizeOf(shape)] : split3(physicalOrder(shape, layout), physicalAxis(axis, rank, layout));
    context.emit({
      op: 'quantize',
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

export const MicrosoftQuantizeLinear: OpDefinition = { ...QuantizeLinear, domain: 'com.microsoft', since: [1] };
