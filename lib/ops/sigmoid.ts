/** Sigmoid (ai.onnx 6, 13): 1 / (1 + exp(-x)). */
import { defineUnary } from './families/elementwise';

export const Sigmoid = defineUnary({
  type: 'Sigmoid',
  since: [6, 13],
  kind: 'sigmoid',
  quant: { kind: 'fixed', range: () => [0, 1] },
  compute: (x) => 1 / (1 + Math.exp(-x)),
});
