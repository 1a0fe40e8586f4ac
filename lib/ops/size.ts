/** Size (ai.onnx 1, 13, 19, 21): the number of elements as an int64 scalar. */
import { defineOp } from './define-op';
import { int64Tensor } from './families/values';

export const Size = defineOp({
  type: 'Size',
  since: [1, 13, 19, 21],
  inferShape: () => [{ dtype: 'int64', shape: [] }],
  run: ([x]) => [int64Tensor([x!.size], [])],
});
