/** And (ai.onnx 7): logical and of bools with broadcasting. */
import { defineComparison } from './families/elementwise';

export const And = defineComparison({ type: 'And', since: [7], compare: (a, b) => Boolean(a) && Boolean(b) });
