/** What quantize() tells about its work. Plain data: JSON.stringify gives all of it. */
import type { CodeDType, DType } from '../tensor/dtype';
import type { Analysis } from './analysis';

/**
 * How ranges are derived from observed values. 'minmax': all values; 'movingAverage': the mean of the samples' extremes;
 * 'percentile': all but the rarest large values; 'entropy': the least information lost; 'mse': the least squared error;
 * 'distribution': the least error expected of a normal or Laplace distribution of their deviation.
 */
export type CalibrationMethod = 'minmax' | 'movingAverage' | 'percentile' | 'entropy' | 'mse' | 'distribution';

/** How one tensor of the float model is represented. */
export interface TensorReport {
  /** Name in the float model. */
  name: string;
  kind: 'activation' | 'weight' | 'bias';
  /** 'uint2' is no type of tensors: such codes are packed in MatMulNBits. */
  type: DType | 'uint2';
  /** real = (code - zeroPoint) * scale; one element per tensor, or one per channel along `axis`. */
  scale: number[];
  zeroPoint: number[];
  axis?: number;
  /** Weights in blocks: indices of `axis` that have a scale together. `scale` and `zeroPoint` are then empty. */
  block?: number;
  /** Names of the nodes for which the codes of an activation are converted to this type. */
  receivers?: string[];
  /** What the codes cover: the calibrated range (activations), or the extremes of the data (weights). Absent for biases. */
  range?: [number, number];
  /** Name of the activation whose scale this tensor has, when it is another's. */
  sharesScaleWith?: string;
}

/** A node that stays in float, and why. */
export interface FloatNodeReport {
  name: string;
  op: string;
  reason: string;
}

/**
 * What makes quantization cost less accuracy, in the order in which it is done. 'equalize': weight ranges of neighbouring
 * layers are made equal; 'smoothQuant': outliers of activations move into weights; 'clipWeights': weight ranges with the
 * least squared error; 'roundWeights': weights are rounded such that products with the inputs seen change least (GPTQ);
 * 'correctBias': biases take back what rounding weights shifts.
 */
export type AlgorithmName = 'equalize' | 'smoothQuant' | 'clipWeights' | 'roundWeights' | 'correctBias';

/** An algorithm that was run, and the nodes whose constants it has changed. */
export interface AlgorithmReport {
  name: AlgorithmName;
  nodes: string[];
}

/** What became of the option `accuracy`. */
export interface AccuracyReport {
  /** The worst output's SQNR in dB, or what the user's function measures. */
  metric: 'sqnr' | 'evaluate';
  wanted: number;
  /** With all layers quantized. */
  before: number;
  /** With those in `reverted` left in float. */
  after: number;
  reached: boolean;
  reverted: string[];
  /** How many quantized models were measured. */
  attempts: number;
}

/** An option, and who chose its value: the user, the target that the user named, or q8 by default. */
export interface SettingReport {
  name: string;
  value: string | number | boolean | readonly string[] | Readonly<Record<string, number>>;
  from: 'default' | 'target' | 'user';
  reason: string;
}

export interface QuantizeReport {
  mode: 'static' | 'dynamic' | 'weightOnly' | 'qat';
  format: 'qoperator' | 'qdq';
  /** Absent in modes 'weightOnly' and 'qat', as are the next two: the model itself says. */
  activationType?: CodeDType;
  weightType?: CodeDType;
  perChannel?: boolean;
  /** How tensors are represented, and why; in modes 'static' and 'dynamic'. */
  settings?: readonly SettingReport[];
  /** In mode 'static' only. */
  calibration?: { method: CalibrationMethod | 'given'; samples: number; engine?: 'ort' | 'q8' };
  /** In mode 'static': the algorithms that were asked for. */
  algorithms?: AlgorithmReport[];
  accuracy?: AccuracyReport;
  /** Bytes of the models, side files included. */
  bytes: { float: number; quantized: number };
  /** How many nodes were quantized, by operator type of the float model. */
  quantizedNodes: Record<string, number>;
  floatNodes: FloatNodeReport[];
  tensors: TensorReport[];
  /** Errors, distributions and perhaps latency, where the option `analyze` asked for them. */
  analysis?: Analysis;
  warnings: string[];
}
