/** IsNaN (ai.onnx 9, 13, 20): whether an element is not a number. Exporters put it behind Softmax. */
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { shapeAs } from './families/inference';
import { toDoubles } from './families/values';

export const IsNaN = defineOp({
  type: 'IsNaN',
  since: [9, 13, 20],
  inferShape: (context) => [shapeAs(context, 'bool')],
  run: ([x]) => [
    new Tensor(
      'bool',
      Uint8Array.from(toDoubles(x!), (v) => (Number.isNaN(v) ? 1 : 0)),
      x!.dims,
    ),
  ],
});
