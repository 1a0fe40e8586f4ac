/** Max (ai.onnx 8, 12, 13): the largest of the inputs, with broadcasting; NaN wins. */
import { defineVariadic } from './families/elementwise';

export const Max = defineVariadic({
  type: 'Max',
  since: [8, 12, 13],
  quant: { kind: 'elementwise', selects: 'required' },
  kind: 'max',
  float: (a, b) => Math.max(a, b),
  big: (a, b) => (a > b ? a : b),
});
