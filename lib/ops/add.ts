/** Add (ai.onnx 7, 13, 14): a + b with broadcasting; integers wrap. */
import { defineBinary } from './families/elementwise';

export const Add = defineBinary({
  type: 'Add',
  since: [7, 13, 14],
  kind: 'add',
  quant: { kind: 'elementwise', masks: true },
  float: (a, b) => a + b,
  big: (a, b) => a + b,
});
