/** Cast (ai.onnx 6, 9, 13, 19, 21): to another element type; floats truncate toward zero when cast to integers. */
import type { Node } from '../graph/graph';
import { allocate, type DataOf, type DType, dtypeFromOnnx } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, shapeAs } from './families/inference';
import { existingLayout } from './families/lowering';
import { fromDoubles, isBigInt, toDoubles } from './families/values';
import { lowerIdentity } from './families/views';

function targetType(node: Node): DType {
  const to = node.attributes.int('to');
  if (to === undefined) throw modelError(node, 'a data type', 'to', 'nothing');
  return dtypeFromOnnx(to, `attribute "to" of node "${node.name}" (${node.op})`);
}

/** The tensor with its elements converted. */
export function cast(x: Tensor, to: DType): Tensor {
  if (x.type === to) return x;
  if (to === 'string') {
    return new Tensor('string', Array.from(x.data as ArrayLike<number | bigint>, String), x.dims);
  }
  if (x.type === 'string') return fromDoubles(to, Float64Array.from(x.data as string[], Number), x.dims);
  if (isBigInt(x.type) && isBigInt(to)) {
    const out = allocate(to, x.size) as BigInt64Array;
    out.set(x.data as BigInt64Array);
    return new Tensor<DType>(to, out as DataOf['int64'], x.dims);
  }
  return fromDoubles(to, toDoubles(x), x.dims);
}

export const Cast = defineOp({
  type: 'Cast',
  since: [6, 9, 13, 19, 21],
  inferShape: (context) => [shapeAs(context, targetType(context.node))],
  run: ([x], { node }) => [cast(x!, targetType(node))],
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const from = context.dtype(value);
    const to = targetType(node);
    if (from === to) return lowerIdentity(context);
    if (to !== 'float32' || (from !== 'int32' && from !== 'uint8' && from !== 'int8')) return false;
    // Dequantizing with scale 1 and zero point 0 is the conversion.
    const layout = existingLayout(context, value);
    const shape = context.shape(value);
    context.emit({
      op: 'dequantize',
      x: context.slot(value, layout).id,
      y: context.output(node.output, layout).id,
      scale: Float32Array.of(1),
      zeroPoint: Int32Array.of(0),
      outer: 1,
      axisSize: 1,
      inner: sizeOf(shape),
    });
    return true;
  },
});
