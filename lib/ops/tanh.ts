/** Tanh (ai.onnx 6, 13): hyperbolic tangent. */
import { defineUnary } from './families/elementwise';

export const Tanh = defineUnary({ type: 'Tanh', since: [6, 13], kind: 'tanh', compute: Math.tanh });
