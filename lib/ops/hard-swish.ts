/** HardSwish (ai.onnx 14, 22): x * max(0, min(1, x / 6 + 1 / 2)). */
import { defineUnary } from './families/elementwise';

export const HardSwish = defineUnary({
  type: 'HardSwish',
  since: [14, 22],
  kind: 'hard_swish',
  quant: { kind: 'elementwise' },
  compute: (x) => x * Math.max(0, Math.min(1, x / 6 + 0.5)),
});
