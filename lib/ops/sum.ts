/** Sum (ai.onnx 8, 13): the sum of the inputs, with broadcasting. */
import { defineVariadic } from './families/elementwise';

export const Sum = defineVariadic({ type: 'Sum', since: [8, 13], kind: 'add', float: (a, b) => a + b });
