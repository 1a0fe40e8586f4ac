/** Selu (ai.onnx 6, 22): gamma * x, or gamma * alpha * (exp(x) - 1) up to zero. */
import { defineUnary } from './families/elementwise';

export const Selu = defineUnary({
  type: 'Selu',
  since: [6, 22],
  quant: { kind: 'elementwise' },
  parameters: ({ attributes }) => ({
    alpha: Math.fround(attributes.float('alpha', 1.6732632)),
    beta: Math.fround(attributes.float('gamma', 1.050701)),
  }),
  compute: (x, alpha, gamma) => gamma * (x > 0 ? x : alpha * Math.expm1(x)),
});
