/** LessOrEqual (ai.onnx 12, 16): a <= b with broadcasting. */
import { defineComparison } from './families/elementwise';

export const LessOrEqual = defineComparison({ type: 'LessOrEqual', since: [12, 16], compare: (a, b) => a <= b });
