/** ReduceL2 (ai.onnx 1, 11, 13, 18): square root of the sum of squares over axes. */
import { stridesOf } from '../tensor/shape';
import { defineReduction } from './families/reduction';

export const ReduceL2 = defineReduction({
  type: 'ReduceL2',
  since: [1, 11, 13, 18],
  axesInputSince: 18,
  initial: 0,
  fold: (sum, v) => sum + v * v,
  finish: Math.sqrt,
  emit(context, x, y, view) {
    const squares = context.temporary('float32', x.shape);
    const strides = stridesOf(x.shape);
    const shape = [...x.shape];
    context.emit({
      op: 'binary',
      kind: 'mul',
      a: x.id,
      b: x.id,
      y: squares.id,
      shape,
      aStrides: strides,
      bStrides: strides,
    });
    const sums = context.temporary('float32', y.shape);
    context.emit({ op: 'reduce', kind: 'sum', x: squares.id, y: sums.id, ...view });
    context.emit({ op: 'unary', kind: 'sqrt', x: sums.id, y: y.id, alpha: 0, beta: 0 });
  },
});
