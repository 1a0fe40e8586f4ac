/** Sqrt (ai.onnx 6, 13): square root; NaN below zero. */
import { defineUnary } from './families/elementwise';

export const Sqrt = defineUnary({ type: 'Sqrt', since: [6, 13], kind: 'sqrt', compute: Math.sqrt });
