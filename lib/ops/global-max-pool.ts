/** GlobalMaxPool (ai.onnx 1, 22): the largest element of each channel. */
import { defineGlobalPool } from './families/global-pooling';

export const GlobalMaxPool = defineGlobalPool({
  type: 'GlobalMaxPool',
  since: [1, 22],
  kind: 'max',
  quant: { kind: 'agnostic' },
  reduce: (plane) => plane.reduce((best, v) => Math.max(best, v), Number.NEGATIVE_INFINITY),
});
