/** Where (ai.onnx 9, 16): elements of X where the condition holds, of Y elsewhere, with broadcasting of all three. */
import { allocate, type DType } from '../tensor/dtype';
import { broadcastShapes, broadcastStrides, sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { broadcastDims } from './families/inference';
import { broadcastLayout, broadcastOperand, isNative, physicalOrder } from './families/lowering';
import { forEachRow } from './families/strided';

/** Elementwise choice with broadcasting. X and Y have one dtype. */
export function select(condition: Tensor, x: Tensor, y: Tensor, where: string): Tensor {
  const shape = broadcastShapes([condition.dims, x.dims, y.dims], where);
  const strides = [condition, x, y].map((t) => broadcastStrides(t.dims, shape));
  const [stepC, stepX, stepY] = strides.map((s) => s[s.length - 1] ?? 0);
  const flags = condition.data as Uint8Array;
  const [left, right] = [x.data as Float32Array, y.data as Float32Array];
  const data = allocate<DType>(x.type, sizeOf(shape));
  const out = data as Float32Array;
  const length = shape[shape.length - 1] ?? 1;
  forEachRow(shape, strides, (at, [rowC, rowX, rowY]) => {
    for (let i = 0; i < length; i++)
      out[at + i] = flags[rowC + i * stepC] ? left[rowX + i * stepX] : right[rowY + i * stepY];
  });
  return new Tensor<DType>(x.type, data, shape);
}

export const Where = defineOp({
  type: 'Where',
  since: [9, 16],
  quant: { kind: 'elementwise', inputs: [1, 2], selects: 'optional', masks: true },
  inferShape(context) {
    const shapes = [0, 1, 2].map((i) => context.input(i).shape);
    return [{ dtype: context.input(1).dtype, shape: broadcastDims(context, shapes) }];
  },
  lower(context) {
    const { node } = context;
    const values = [0, 1, 2].map((i) => node.requiredInput(i));
    const dtype = context.dtype(values[1]);
    if (!isNative(dtype) || context.dtype(values[2]) !== dtype) return false;
    const shape = context.shape(node.output);
    const layout = broadcastLayout(context, values, shape);
    const [condition, a, b] = values.map((value) => broadcastOperand(context, value, shape, layout));
    context.emit({
      op: 'where',
      condition: condition.slot.id,
      a: a.slot.id,
      b: b.slot.id,
      y: context.output(node.output, layout).id,
      shape: physicalOrder(shape, layout),
      conditionStrides: condition.strides,
      aStrides: a.strides,
      bStrides: b.strides,
    });
    return true;
  },
  run: ([condition, x, y], { node }) => [select(condition!, x!, y!, `node "${node.name}" (${node.op})`)],
});
