/** What calibration wants of a runtime: run a float model on one sample and give out its results. */
import type { Graph } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';

export interface EngineResult {
  readonly data: unknown;
  readonly dims: readonly number[];
}

export interface CalibrationEngine {
  /** All outputs of the model, by name. */
  run(feed: Readonly<Record<string, Tensor>>): Promise<Readonly<Record<string, EngineResult>>>;
  release(): Promise<void>;
}

export interface EngineOptions {
  /** 0 = all cores. */
  threads: number;
}

/** Opens a prepared graph, which is consumed. */
export type OpenEngine = (graph: Graph, options: EngineOptions) => Promise<CalibrationEngine>;
