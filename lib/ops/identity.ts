/** Identity (ai.onnx 1, 13, 14, 16, 19, 21): the input itself. */
import { defineOp } from './define-op';
import { typeOf } from './families/inference';
import { lowerIdentity } from './families/views';

export const Identity = defineOp({
  type: 'Identity',
  since: [1, 13, 14, 16, 19, 21],
  quant: { kind: 'agnostic' },
  inferShape: (context) => [typeOf(context)],
  run: ([x]) => [x!],
  lower: lowerIdentity,
});
