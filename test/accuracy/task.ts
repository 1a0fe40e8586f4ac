/** What an accuracy task is: a model, data to calibrate with, and a score that larger is better for. */
import type { CalibrationFeed, InferenceSession, StaticQuantizeOptions } from '../../lib';

export interface Task {
  name: string;
  /** What the score is. */
  metric: string;
  /** Path of the float model. */
  model: string;
  /** Samples that are not judged on. Called for every quantization. */
  calibration(): Iterable<CalibrationFeed>;
  /** Scores from 0 to 1 by condition, like the level of noise. `share` (0 to 1) shrinks the test for a quick look. */
  evaluate(session: InferenceSession, share: number): Promise<Record<string, number>>;
  /** The setting that `docs/quantizer.md` names where defaults lose too much; chosen on other data than is judged on. */
  best?: Omit<StaticQuantizeOptions, 'mode' | 'calibration'>;
  /** Whether dynamic quantization is of interest: transformers. */
  dynamic?: boolean;
}

/** At least one of `count`. */
export function portion(count: number, share: number): number {
  return Math.max(1, Math.round(count * share));
}
