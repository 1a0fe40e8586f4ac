/** GreaterOrEqual (ai.onnx 12, 16): a >= b with broadcasting. */
import { defineComparison } from './families/elementwise';

export const GreaterOrEqual = defineComparison({ type: 'GreaterOrEqual', since: [12, 16], compare: (a, b) => a >= b });
