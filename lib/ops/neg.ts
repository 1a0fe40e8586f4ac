/** Neg (ai.onnx 6, 13): -x. */
import { defineUnary } from './families/elementwise';

export const Neg = defineUnary({ type: 'Neg', since: [6, 13], kind: 'neg', compute: (x) => -x, big: (x) => -x });
