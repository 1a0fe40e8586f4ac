/** NonZero (ai.onnx 9, 13): indices of the elements that are not zero, one column each. The shape depends on the data. */
import { stridesOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { int64Tensor, toDoubles } from './families/values';

export const NonZero = defineOp({
  type: 'NonZero',
  since: [9, 13],
  inferShape(context) {
    const { shape } = context.input(0);
    return [{ dtype: 'int64', shape: [shape ? shape.length : context.unknownDim(), context.unknownDim()] }];
  },
  run([x]) {
    const found: number[] = [];
    toDoubles(x!).forEach((value, i) => {
      if (value !== 0) found.push(i);
    });
    const strides = stridesOf(x!.dims);
    const rows = x!.dims.flatMap((dim, axis) => found.map((i) => Math.floor(i / strides[axis]) % dim));
    return [int64Tensor(rows, [x!.dims.length, found.length])];
  },
});
