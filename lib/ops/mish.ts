/** Mish (ai.onnx 18, 22): x * tanh(log(1 + exp(x))). */
import { defineUnary } from './families/elementwise';
import { softplus } from './families/special-functions';

export const Mish = defineUnary({
  type: 'Mish',
  since: [18, 22],
  quant: { kind: 'elementwise' },
  compute: (x) => x * Math.tanh(softplus(x)),
});
