/** HardSigmoid (ai.onnx 6, 22): max(0, min(1, alpha * x + beta)). */
import type { Node } from '../graph/graph';
import { defineUnary } from './families/elementwise';

function parameters({ attributes }: Node): { alpha: number; beta: number } {
  return {
    alpha: Math.fround(attributes.float('alpha', 0.2)),
    beta: Math.fround(attributes.float('beta', 0.5)),
  };
}

export const HardSigmoid = defineUnary({
  type: 'HardSigmoid',
  since: [6, 22],
  kind: 'hard_sigmoid',
  quant: { kind: 'fixed', range: () => [0, 1] },
  parameters,
  compute: (x, alpha, beta) => Math.max(0, Math.min(1, alpha * x + beta)),
});
