/** Tanh (ai.onnx 6, 13): hyperbolic tangent. */
import { defineUnary } from './families/elementwise';

export const Tanh = defineUnary({
  type: 'Tanh',
  since: [6, 13],
  kind: 'tanh',
  quant: { kind: 'fixed', range: () => [-1, 1] },
  compute: Math.tanh,
});
