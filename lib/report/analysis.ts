/** What an analysis of a model beside its float original finds. Plain data; in JSON, numbers that are not finite are null. */
import type { DType } from '../tensor/dtype';
import type { Errors } from './metrics';

/** How often which values occur: `counts[i]` lie in [low + i * width, low + (i + 1) * width). */
export interface Distribution {
  low: number;
  width: number;
  counts: number[];
}

/** What the float model's values are, channel by channel. */
export interface ChannelAnalysis {
  /** The axis of channels, from 0. */
  axis: number;
  maxAbs: number[];
  mean: number[];
  /** The largest of `maxAbs` by the median of those above 0: where it is high, one scale suits most channels badly. */
  spread: number;
}

/** A tensor between the nodes. */
export interface TensorAnalysis {
  /** In the float model. */
  name: string;
  /** The node of the float model that makes it; absent for inputs. */
  node?: { name: string; op: string };
  /** The operator that makes it in the other model; absent for inputs. */
  runsAs?: string;
  /** How it is stored in the other model. */
  type: DType;
  isOutput: boolean;
  /** Both models on their own: errors of everything before are included. */
  accumulated: Errors;
  /** The node alone, fed with the float model's tensors. Absent for inputs. */
  local?: Errors;
  /** real = (code - zeroPoint) * scale; absent for floats. */
  scale?: number;
  zeroPoint?: number;
  /** The reals that the codes can express. */
  range?: [low: number, high: number];
  /** Extremes of the float model's values. */
  observed: [min: number, max: number];
  /** Share of values (0 to 1) that the range cuts off. */
  clipped: number;
  distribution: Distribution;
  /** Absent for tensors without channels, or whose number differs between samples. */
  channels?: ChannelAnalysis;
}

/** A constant of the float model that is stored as codes. */
export interface WeightAnalysis extends Errors {
  name: string;
  type: DType;
  shape: readonly number[];
  /** How many scales there are. */
  channels: number;
  /** The reals that the codes can express; with several scales, those of the largest. */
  range: [low: number, high: number];
  bytes: { float: number; quantized: number };
  distribution: Distribution;
}

/** Milliseconds per run, on this machine; medians. */
export interface LatencyAnalysis {
  reference: number;
  other: number;
  runs: number;
}

export interface Analysis {
  samples: number;
  /** In execution order. */
  tensors: TensorAnalysis[];
  weights: WeightAnalysis[];
  latency?: LatencyAnalysis;
}

/** The worst SQNR among the model's outputs. */
export function outputSqnr({ tensors }: Pick<Analysis, 'tensors'>): number {
  return Math.min(...tensors.filter(({ isOutput }) => isOutput).map(({ accumulated }) => accumulated.sqnr));
}
