/** Mean (ai.onnx 8, 13): the mean of the inputs, with broadcasting. */
import { defineVariadic, mapTensor } from './families/elementwise';

export const Mean = defineVariadic({
  type: 'Mean',
  since: [8, 13],
  float: (a, b) => a + b,
  finish: (sum, count) => mapTensor(sum, (v) => v / count),
});
