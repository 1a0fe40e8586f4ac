/** Sub (ai.onnx 7, 13, 14): a - b with broadcasting; integers wrap. */
import { defineBinary } from './families/elementwise';

export const Sub = defineBinary({
  type: 'Sub',
  since: [7, 13, 14],
  quant: { kind: 'elementwise' },
  kind: 'sub',
  float: (a, b) => a - b,
  big: (a, b) => a - b,
});
