/** Abs (ai.onnx 6, 13): |x|. */
import { defineUnary } from './families/elementwise';

export const Abs = defineUnary({
  type: 'Abs',
  since: [6, 13],
  kind: 'abs',
  compute: Math.abs,
  big: (x) => (x < 0n ? -x : x),
});
