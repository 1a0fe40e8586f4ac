/** Elu (ai.onnx 6, 22): x, or alpha * (exp(x) - 1) below zero. */
import { defineUnary } from './families/elementwise';

export const Elu = defineUnary({
  type: 'Elu',
  since: [6, 22],
  quant: { kind: 'elementwise' },
  kind: 'elu',
  parameters: ({ attributes }) => ({ alpha: Math.fround(attributes.float('alpha', 1)), beta: 0 }),
  compute: (x, alpha) => (x < 0 ? alpha * Math.expm1(x) : x),
});
