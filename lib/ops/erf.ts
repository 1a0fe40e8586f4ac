/** Erf (ai.onnx 9, 13): the Gauss error function. */
import { defineUnary } from './families/elementwise';
import { erf } from './families/special-functions';

export const Erf = defineUnary({ type: 'Erf', since: [9, 13], kind: 'erf', compute: erf });
