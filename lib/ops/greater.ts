/** Greater (ai.onnx 7, 9, 13): a > b with broadcasting. */
import { defineComparison } from './families/elementwise';

export const Greater = defineComparison({ type: 'Greater', since: [7, 9, 13], compare: (a, b) => a > b });
