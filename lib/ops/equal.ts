/** Equal (ai.onnx 7, 11, 13, 19): a == b with broadcasting. */
import { defineComparison } from './families/elementwise';

export const Equal = defineComparison({ type: 'Equal', since: [7, 11, 13, 19], compare: (a, b) => a === b });
