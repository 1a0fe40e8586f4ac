/** GlobalAveragePool (ai.onnx 1, 22): the mean of each channel. */
import { defineGlobalPool } from './families/global-pooling';

export const GlobalAveragePool = defineGlobalPool({
  type: 'GlobalAveragePool',
  since: [1, 22],
  kind: 'mean',
  quant: { kind: 'elementwise' },
  reduce: (plane) => plane.reduce((sum, v) => sum + v, 0) / plane.length,
});
