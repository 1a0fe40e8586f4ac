/**
 * quantize(): float ONNX model in, int8 ONNX model out. Reading, preparing and writing are the same in all modes; what lies
 * between is a file for each mode.
 */
import { rm } from 'node:fs/promises';
import { expected } from '../errors';
import type { Graph, Node } from '../graph/graph';
import { graphToProto } from '../graph/to-proto';
import { digestOf } from '../onnx/digest';
import type { ModelProto } from '../onnx/proto';
import { keepFiles, modelSize, type WriteOptions, writeModel, writeModelFile } from '../onnx/write';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import type { QuantizeReport } from '../report/quantize-report';
import { forgetLoaded } from '../tensor/tensor';
import { quantizeDynamic } from './dynamic';
import { loadGraph } from './load';
import { type QuantizeOptions, type ResolvedOptions, resolveOptions } from './options';
import { importQat } from './qat';
import { refusals } from './refusals';
import { verifyModel } from './verify';
import { quantizeWeightOnly } from './weight-only';
import type { CalibrationRanges } from './ranges';
import { quantizeStatic } from './static';

export type {
  AccuracyReport,
  AlgorithmName,
  AlgorithmReport,
  CalibrationMethod,
  FloatNodeReport,
  QuantizeReport,
  SettingReport,
  TensorReport,
} from '../report/quantize-report';
export type { AccuracyOptions } from './algorithms/revert-layers';
export type {
  CalibrationData,
  CalibrationFeed,
  DynamicQuantizeOptions,
  EngineName,
  QatQuantizeOptions,
  QuantizeOptions,
  QuantizeProgress,
  StaticQuantizeOptions,
  WeightOnlyQuantizeOptions,
} from './options';
export type { NodeDescription, NodeSelector, RegionSelector } from './select';
export { type PreparedModel, type PrepareOptions, prepareModel, prepareModelFile } from './prepare-model';
export type { CalibrationRanges, RangesSource } from './ranges';
export type { CpuTargetName, TargetName } from './targets';
export { type CalibrationTableOptions, writeCalibrationTable } from './tensorrt-table';

export interface QuantizeResult {
  /** The bytes of the quantized ONNX model. */
  model: Uint8Array;
  report: QuantizeReport;
  /** In mode 'static': the ranges of all activations, which the option `ranges` of later calls takes. */
  ranges?: CalibrationRanges;
}

/**
 * Quantizes a float32 ONNX model to int8, or turns one that was trained with quantization into its integer form.
 *
 * @param model path of an .onnx file, or its bytes (which must not change until the promise settles).
 * @param options see {@link StaticQuantizeOptions}, {@link DynamicQuantizeOptions}, {@link WeightOnlyQuantizeOptions}
 * and {@link QatQuantizeOptions}; `mode`
 * is required, and so is `calibration` in mode 'static'.
 * @returns the bytes of the new model, whose inputs and outputs keep their names and types, and a report.
 * @throws ERR_Q8_INVALID_ARGUMENT for wrong options (before any work) and for samples that do not fit the model;
 * ERR_Q8_BAD_MODEL and ERR_Q8_UNSUPPORTED_OP for models that cannot be read.
 */
export async function quantize(model: string | Uint8Array, options: QuantizeOptions): Promise<QuantizeResult> {
  const resolved = resolveOptions(options);
  const { proto, sideFiles: _, ...result } = await quantizeToProto(model, resolved);
  const bytes = writeModel(proto);
  if (resolved.verify) await verifyModel(bytes, nodeNames(proto));
  return { model: bytes, ...result };
}

/** Whether large tensors go to a side file beside the output. Default: only when the model would not fit in 2 GiB. */
export type QuantizeFileOptions = WriteOptions;

/** What {@link quantizeFile} tells. */
export interface QuantizeFileResult extends Omit<QuantizeResult, 'model'> {
  /** The files written: the model, and its side file if it has one. */
  files: string[];
}

/**
 * {@link quantize}, from file to file. The model may be larger than the memory: tensors in side files are read, quantized and
 * written one at a time, so that what is held is the model without them and the codes of what was quantized.
 *
 * @param output path of the new model. Nothing is written when quantizing fails.
 * @throws ERR_Q8_INVALID_ARGUMENT also when a file of the input would be overwritten.
 */
export async function quantizeFile(
  model: string,
  output: string,
  options: QuantizeOptions & QuantizeFileOptions,
): Promise<QuantizeFileResult> {
  const { externalData, ...rest } = options;
  const resolved = resolveOptions(rest as QuantizeOptions);
  if (typeof model !== 'string') throw expected('a path', 'the model', model);
  if (typeof output !== 'string' || output === '') throw expected('a path', 'the output', output);
  const { proto, sideFiles, ...result } = await quantizeToProto(model, resolved);
  keepFiles([model, ...sideFiles], output, { externalData });
  const files = await writeModelFile(proto, output, { externalData });
  if (resolved.verify) {
    await verifyModel(output, nodeNames(proto)).catch(async (error) => {
      await Promise.all(files.map((file) => rm(file, { force: true })));
      throw error;
    });
  }
  return { ...result, files };
}

function nodeNames(proto: ModelProto): Set<string> {
  return new Set(proto.graph?.node?.map(({ name }) => name ?? ''));
}

type QuantizedProto = Omit<QuantizeResult, 'model'> & { proto: ModelProto; sideFiles: readonly string[] };

async function quantizeToProto(model: string | Uint8Array, resolved: ResolvedOptions): Promise<QuantizedProto> {
  const { loaded, graph, selection } = await loadGraph(model, resolved);
  const float = modelSize(graphToProto(graph));
  const { result, ranges } = await quantizeGraph(graph, resolved, refusals(graph, resolved, selection), () =>
    digestOf(loaded),
  );
  const { quantizedNodes, floatNodes, tensors, warnings = [], ...settings } = result;
  removeDeadNodes(graph);
  const proto = graphToProto(graph);
  forgetLoaded();
  resolved.onProgress?.({ phase: 'quantize', done: 1, total: 1 });
  if (Object.keys(quantizedNodes).length === 0)
    warnings.push('No node could be quantized; the reasons are in floatNodes.');
  const report: QuantizeReport = {
    mode: resolved.mode,
    ...settings,
    bytes: { float, quantized: modelSize(proto) },
    quantizedNodes,
    floatNodes,
    tensors,
    warnings,
  };
  return { proto, report, ...(ranges && { ranges }), sideFiles: loaded.sideFiles ?? [] };
}

/** What a mode adds to the report. */
type ModeReport = Omit<QuantizeReport, 'mode' | 'bytes' | 'warnings'> & { warnings?: string[] };

async function quantizeGraph(
  graph: Graph,
  options: ResolvedOptions,
  refusal: (node: Node) => string | undefined,
  digest: () => string,
): Promise<{ result: ModeReport; ranges?: CalibrationRanges }> {
  switch (options.mode) {
    case 'static': {
      const { format, activationType, weightType, perChannel, settings } = options;
      const { report, ranges } = await quantizeStatic(graph, options, refusal, digest());
      return { result: { format, activationType, weightType, perChannel, settings, ...report }, ranges };
    }
    case 'dynamic': {
      const { weightType, perChannel, settings } = options;
      const result = quantizeDynamic(graph, options, refusal);
      return { result: { format: 'qoperator', activationType: 'uint8', weightType, perChannel, settings, ...result } };
    }
    case 'weightOnly':
      return { result: { format: options.format, ...(await quantizeWeightOnly(graph, options, refusal)) } };
    case 'qat':
      return { result: { format: options.format, ...importQat(graph, options.format) } };
  }
}
