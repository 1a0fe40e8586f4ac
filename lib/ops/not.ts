/** Not (ai.onnx 1): logical not of bools. */
import { defineUnary } from './families/elementwise';

export const Not = defineUnary({ type: 'Not', since: [1], compute: (x) => (x === 0 ? 1 : 0) });
