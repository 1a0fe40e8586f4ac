/** Ceil (ai.onnx 6, 13): the smallest integer not below x. */
import { defineUnary } from './families/elementwise';

export const Ceil = defineUnary({ type: 'Ceil', since: [6, 13], kind: 'ceil', compute: Math.ceil });
