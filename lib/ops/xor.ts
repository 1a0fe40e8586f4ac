/** Xor (ai.onnx 7): logical exclusive or of bools with broadcasting. */
import { defineComparison } from './families/elementwise';

export const Xor = defineComparison({ type: 'Xor', since: [7], compare: (a, b) => Boolean(a) !== Boolean(b) });
