/** ConstantOfShape (ai.onnx 9, 20, 21): a tensor of the given shape, filled with one value. */
import { allocate, type DType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, unknownShape } from './families/inference';
import { integersOf } from './families/values';

export const ConstantOfShape = defineOp({
  type: 'ConstantOfShape',
  since: [9, 20, 21],
  inferShape(context) {
    const dtype = context.node.attributes.tensor('value')?.type ?? 'float32';
    const target = context.constant(0);
    if (target) return [{ dtype, shape: checkShape(integersOf(target)) }];
    const dims = context.dims(0);
    if (dims) return [{ dtype, shape: dims }];
    const rank = context.input(0).shape?.[0];
    return [{ dtype, shape: typeof rank === 'number' ? unknownShape(context, rank) : undefined }];

    function checkShape(shape: number[]): number[] {
      if (shape.some((dim) => dim < 0)) throw modelError(context.node, 'sizes >= 0', 'input 0', shape);
      return shape;
    }
  },
  run([target], { node }) {
    const value = node.attributes.tensor('value') ?? new Tensor('float32', [0]);
    const dims = integersOf(target!);
    if (dims.some((dim) => dim < 0)) throw modelError(node, 'sizes >= 0', 'input 0', dims);
    const data = allocate<DType>(value.type, sizeOf(dims));
    (data as Float32Array).fill((value.data as Float32Array)[0]);
    return [new Tensor<DType>(value.type, data, dims)];
  },
});
