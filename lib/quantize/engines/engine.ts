/** What calibration wants of a runtime: run a float model on one sample and give out its results. */
import type { Tensor } from '../../tensor/tensor';

export interface CalibrationEngine {
  /** All outputs of the model, by name. */
  run(feed: Readonly<Record<string, Tensor>>): Promise<Readonly<Record<string, { readonly data: unknown }>>>;
  release(): Promise<void>;
}

export interface EngineOptions {
  /** 0 = all cores. */
  threads: number;
}

/** Opens a model given as bytes, without side files. */
export type OpenEngine = (model: Uint8Array, options: EngineOptions) => Promise<CalibrationEngine>;
