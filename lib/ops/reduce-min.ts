/** ReduceMin (ai.onnx 1, 11, 12, 13, 18, 20): smallest element over axes. */
import { defineReduction } from './families/reduction';

export const ReduceMin = defineReduction({
  type: 'ReduceMin',
  since: [1, 11, 12, 13, 18, 20],
  axesInputSince: 18,
  kind: 'min',
  initial: Number.POSITIVE_INFINITY,
  fold: Math.min,
  quant: { kind: 'agnostic' },
});
