/** Or (ai.onnx 7): logical or of bools with broadcasting. */
import { defineComparison } from './families/elementwise';

export const Or = defineComparison({ type: 'Or', since: [7], compare: (a, b) => Boolean(a) || Boolean(b) });
