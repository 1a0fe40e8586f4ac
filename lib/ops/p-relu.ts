/** PRelu (ai.onnx 7, 9, 16): x, or slope * x below zero; slope broadcasts to the shape of x. */
import { defineBinary } from './families/elementwise';
import { isScalarConstant } from './families/values';

export const PRelu = defineBinary({
  type: 'PRelu',
  since: [7, 9, 16],
  // With one slope it is a LeakyRelu.
  quant: { kind: 'elementwise', floatOnly: (node) => !isScalarConstant(node.input(1)) },
  kind: 'prelu',
  float: (x, slope) => (x < 0 ? slope * x : x),
  big: (x, slope) => (x < 0n ? slope * x : x),
});
