/** ReduceMax (ai.onnx 1, 11, 12, 13, 18, 20): largest element over axes. */
import { defineReduction } from './families/reduction';

export const ReduceMax = defineReduction({
  type: 'ReduceMax',
  since: [1, 11, 12, 13, 18, 20],
  axesInputSince: 18,
  kind: 'max',
  initial: Number.NEGATIVE_INFINITY,
  fold: Math.max,
  quant: { kind: 'agnostic' },
});
