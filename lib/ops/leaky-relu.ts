/** LeakyRelu (ai.onnx 6, 16): x, or alpha * x below zero. */
import { defineUnary } from './families/elementwise';

export const LeakyRelu = defineUnary({
  type: 'LeakyRelu',
  since: [6, 16],
  kind: 'leaky_relu',
  quant: { kind: 'elementwise' },
  parameters: ({ attributes }) => ({ alpha: Math.fround(attributes.float('alpha', 0.01)), beta: 0 }),
  compute: (x, alpha) => (x < 0 ? alpha * x : x),
});
