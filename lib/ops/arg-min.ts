/** ArgMin (ai.onnx 1, 11, 12, 13): index of the smallest element along an axis. */
import { defineArgExtremum } from './families/arg-extremum';

export const ArgMin = defineArgExtremum('ArgMin', (a, b) => a < b);
