/** Round (ai.onnx 11, 22): to the nearest integer, ties to even. */
import { roundHalfEven } from '../tensor/rounding';
import { defineUnary } from './families/elementwise';

export const Round = defineUnary({ type: 'Round', since: [11, 22], kind: 'round', compute: roundHalfEven });
