/** Exp (ai.onnx 6, 13): e to the power x. */
import { defineUnary } from './families/elementwise';

export const Exp = defineUnary({ type: 'Exp', since: [6, 13], kind: 'exp', compute: Math.exp });
