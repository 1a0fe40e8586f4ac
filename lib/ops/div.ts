/** Div (ai.onnx 7, 13, 14): a / b with broadcasting; integers truncate toward zero, and x / 0 is 0 for them. */
import { defineBinary } from './families/elementwise';
import { isScalarConstant } from './families/values';

export const Div = defineBinary({
  type: 'Div',
  since: [7, 13, 14],
  // By a scalar it is a product.
  quant: { kind: 'elementwise', floatOnly: (node) => !isScalarConstant(node.input(1)) },
  kind: 'div',
  float: (a, b) => a / b,
  integer: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)),
  big: (a, b) => (b === 0n ? 0n : a / b),
});
