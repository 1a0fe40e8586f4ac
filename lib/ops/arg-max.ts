/** ArgMax (ai.onnx 1, 11, 12, 13): index of the largest element along an axis. */
import { defineArgExtremum } from './families/arg-extremum';

export const ArgMax = defineArgExtremum('ArgMax', (a, b) => a > b);
