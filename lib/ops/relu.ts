/** Relu (ai.onnx 6, 13, 14): max(x, 0). */
import { defineUnary } from './families/elementwise';

export const Relu = defineUnary({
  type: 'Relu',
  since: [6, 13, 14],
  kind: 'relu',
  quant: { kind: 'clamp' },
  compute: (x) => (x < 0 ? 0 : x),
  big: (x) => (x < 0n ? 0n : x),
});
