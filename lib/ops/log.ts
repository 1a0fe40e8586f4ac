/** Log (ai.onnx 6, 13): natural logarithm; NaN below zero. */
import { defineUnary } from './families/elementwise';

export const Log = defineUnary({ type: 'Log', since: [6, 13], kind: 'log', compute: Math.log });
