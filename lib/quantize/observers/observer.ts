/** What calibration keeps of a tensor while samples stream by. Memory does not depend on how much is observed. */
import type { Range } from '../scale';

export interface Observer {
  /** Takes in one sample. NaN and infinities are left out and remembered. */
  observe(data: Float32Array): void;
  /** Whether some value was NaN or infinite. */
  readonly sawNonFinite: boolean;
  /** The range that codes should cover, after all samples; [0, 0] without any. */
  readonly range: Range;
}

/** Multiplying by zero keeps NaN and turns infinities into NaN, which a sum then carries to its end. */
export function allFinite(data: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i] * 0;
  return sum === 0;
}
