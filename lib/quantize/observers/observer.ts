/** What calibration keeps of a tensor while samples stream by. Memory does not depend on how much is observed. */
import { extremesOf, isFiniteRange, type Range, rangeOf } from '../scale';

export interface Observer {
  /** Takes in one sample. NaN and infinities are left out and remembered. */
  observe(data: Float32Array): void;
  /** Whether there was anything to observe, be it empty. */
  readonly hasSeen: boolean;
  /** Whether some value was NaN or infinite. */
  readonly sawNonFinite: boolean;
  /** The range that codes should cover, after all samples; [0, 0] without any. */
  readonly range: Range;
}

/** An observer for which the extremes of each sample are enough. */
export interface ExtremesObserver extends Observer {
  /** Takes in one sample that is not empty and all finite. */
  observeExtremes(extremes: Range): void;
}

/** Smallest and largest finite element ([0, 0] when there is none), and whether all elements are finite. */
export function finiteExtremes(data: Float32Array): Range & { allFinite: boolean } {
  const extremes = extremesOf(data);
  if (isFiniteRange(extremes)) return { ...extremes, allFinite: true };
  return { ...rangeOf(data), allFinite: data.length === 0 };
}
