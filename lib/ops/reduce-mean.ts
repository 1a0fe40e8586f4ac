/** ReduceMean (ai.onnx 1, 11, 13, 18): mean over axes. */
import { defineReduction } from './families/reduction';

export const ReduceMean = defineReduction({
  type: 'ReduceMean',
  since: [1, 11, 13, 18],
  axesInputSince: 18,
  kind: 'mean',
  initial: 0,
  fold: (sum, v) => sum + v,
  finish: (sum, count) => sum / count,
});
