/** HardSigmoid (ai.onnx 6, 22): max(0, min(1, alpha * x + beta)). */
import { defineUnary } from './families/elementwise';

export const HardSigmoid = defineUnary({
  type: 'HardSigmoid',
  since: [6, 22],
  kind: 'hard_sigmoid',
  quant: { kind: 'fixed', range: () => [0, 1] },
  parameters: ({ attributes }) => ({
    alpha: Math.fround(attributes.float('alpha', 0.2)),
    beta: Math.fround(attributes.float('beta', 0.5)),
  }),
  compute: (x, alpha, beta) => Math.max(0, Math.min(1, alpha * x + beta)),
});
