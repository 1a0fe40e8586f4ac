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

/** The whole line. */
export const UNLIMITED: Range = { min: Number.NEGATIVE_INFINITY, max: Number.POSITIVE_INFINITY };

/** `range` as seen by readers that take values beyond `limits` for the limits. */
export function clampTo({ min, max }: Range, limits: Range): Range {
  const clamp = (x: number) => Math.min(Math.max(x, limits.min), limits.max);
  return { min: clamp(min), max: clamp(max) };
}

/** Multiplying by zero keeps NaN and turns infinities into NaN, which a sum then carries to its end. */
export function allFinite(data: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i] * 0;
  return sum === 0;
}
