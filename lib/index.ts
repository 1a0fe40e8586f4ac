/**
 * The public API of q8: kernels (qgemm), the quantizer (quantize), the runtime (InferenceSession), and what they share.
 * docs/api.md introduces it.
 */
export { Q8Error, type Q8ErrorCode } from './errors';
export {
  type CpuInfo,
  cpuInfo,
  type DequantizeOptions,
  type KernelInfo,
  PackedWeights,
  packWeights,
  type PackWeightsOptions,
  qgemm,
  qgemmAsync,
  type QgemmAsyncOptions,
  type QgemmOptions,
  type QgemmResult,
  type RequantizeOptions,
} from './kernels';
export {
  type AccuracyOptions,
  type AccuracyReport,
  type AlgorithmName,
  type AlgorithmReport,
  type CalibrationData,
  type CalibrationFeed,
  type CalibrationMethod,
  type CalibrationRanges,
  type CalibrationTableOptions,
  type CpuTargetName,
  type DynamicQuantizeOptions,
  type FloatNodeReport,
  type NodeDescription,
  type NodeSelector,
  type PreparedModel,
  type PrepareOptions,
  prepareModel,
  prepareModelFile,
  type QatQuantizeOptions,
  type WeightOnlyQuantizeOptions,
  type QuantizeFileOptions,
  type QuantizeFileResult,
  type QuantizeOptions,
  type QuantizeProgress,
  type QuantizeReport,
  type QuantizeResult,
  quantize,
  quantizeFile,
  type RangesSource,
  type RegionSelector,
  type StaticQuantizeOptions,
  type SettingReport,
  type TargetName,
  type TensorReport,
  writeCalibrationTable,
} from './quantize';
export { explain, type PlannedNode, type PlannedWeight, type QuantizationPlan } from './quantize/explain';
export { type AnalyzeOptions, compareModels } from './quantize/analyze';
export type {
  Analysis,
  ChannelAnalysis,
  Distribution,
  LatencyAnalysis,
  TensorAnalysis,
  WeightAnalysis,
} from './report/analysis';
export { type HtmlReport, renderHtml } from './report/html';
export type { Errors } from './report/metrics';
export type { Feed, InputSpec } from './readers/inputs';
export {
  type RandomOptions,
  randomSamples,
  readSamples,
  type SampleOptions,
  type Samples,
  type SampleSource,
} from './readers/samples';
export { InferenceSession, type NodeInfo, type ValueMetadata } from './runtime/session';
export type { RunOptions, SessionOptions } from './runtime/session-options';
export type { DType } from './tensor/dtype';
export { Tensor } from './tensor/tensor';
