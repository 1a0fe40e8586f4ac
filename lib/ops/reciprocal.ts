/** Reciprocal (ai.onnx 6, 13): 1 / x. */
import { defineUnary } from './families/elementwise';

export const Reciprocal = defineUnary({
  type: 'Reciprocal',
  since: [6, 13],
  kind: 'reciprocal',
  compute: (x) => 1 / x,
});
