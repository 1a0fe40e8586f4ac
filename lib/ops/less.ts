/** Less (ai.onnx 7, 9, 13): a < b with broadcasting. */
import { defineComparison } from './families/elementwise';

export const Less = defineComparison({ type: 'Less', since: [7, 9, 13], compare: (a, b) => a < b });
