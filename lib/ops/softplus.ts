/** Softplus (ai.onnx 1, 22): log(1 + exp(x)). */
import { defineUnary } from './families/elementwise';
import { softplus } from './families/special-functions';

export const Softplus = defineUnary({
  type: 'Softplus',
  since: [1, 22],
  quant: { kind: 'elementwise' },
  kind: 'softplus',
  compute: softplus,
});
