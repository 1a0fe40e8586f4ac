/** ReduceSum (ai.onnx 1, 11, 13): sum over axes. */
import { defineReduction } from './families/reduction';

export const ReduceSum = defineReduction({
  type: 'ReduceSum',
  since: [1, 11, 13],
  axesInputSince: 13,
  kind: 'sum',
  initial: 0,
  fold: (sum, v) => sum + v,
});
