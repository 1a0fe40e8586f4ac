/** Min (ai.onnx 8, 12, 13): the smallest of the inputs, with broadcasting; NaN wins. */
import { defineVariadic } from './families/elementwise';

export const Min = defineVariadic({
  type: 'Min',
  since: [8, 12, 13],
  quant: { kind: 'elementwise', selects: 'required' },
  kind: 'min',
  float: (a, b) => Math.min(a, b),
  big: (a, b) => (a < b ? a : b),
});
