/**
 * quantize(): float ONNX model in, int8 ONNX model out. Reading, preparing and writing are the same in all modes; what lies
 * between is a file for each mode.
 */
import { expected } from '../errors';
import { graphFromProto } from '../graph/from-proto';
import { type Graph, type Node, subgraphsOf } from '../graph/graph';
import { graphToProto } from '../graph/to-proto';
import { digestOf } from '../onnx/digest';
import { readModel } from '../onnx/read';
import { writeModel } from '../onnx/write';
import { lookupOp } from '../ops/registry';
import { prepare } from '../passes';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import type { FloatNodeReport, QuantizeReport } from '../report/quantize-report';
import { quantizeDynamic } from './dynamic';
import { type QuantizeOptions, type ResolvedOptions, resolveOptions } from './options';
import { importQat } from './qat';
import { Selection } from './select';
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
export type { CalibrationRanges, RangesSource } from './ranges';
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
  if (typeof model !== 'string' && !(model instanceof Uint8Array))
    throw expected('a path or a Uint8Array', 'the model', model);
  const { signal, onProgress, baseDirectory } = resolved;
  signal?.throwIfAborted();
  onProgress?.({ phase: 'prepare', done: 0, total: 1 });
  const loaded = await readModel(model, baseDirectory === undefined ? {} : { baseDirectory });
  const graph = graphFromProto(loaded.model);
  const asRead = [...graph.nodes];
  const selection = resolved.mode === 'qat' ? undefined : new Selection(resolved, graph);
  prepare(graph);
  selection?.apply(graph, asRead);
  onProgress?.({ phase: 'prepare', done: 1, total: 1 });
  signal?.throwIfAborted();
  const inSubgraphs = nodesInSubgraphs(graph);
  const float = writeModel(graphToProto(graph)).byteLength;
  const { result, ranges } = await quantizeGraph(graph, resolved, selection, () => digestOf(loaded));
  const { quantizedNodes, floatNodes, tensors, warnings = [], ...settings } = result;
  removeDeadNodes(graph);
  const bytes = writeModel(graphToProto(graph));
  onProgress?.({ phase: 'quantize', done: 1, total: 1 });
  if (Object.keys(quantizedNodes).length === 0)
    warnings.push('No node could be quantized; the reasons are in floatNodes.');
  const report: QuantizeReport = {
    mode: resolved.mode,
    ...settings,
    bytes: { float, quantized: bytes.byteLength },
    quantizedNodes,
    floatNodes: [...floatNodes, ...inSubgraphs],
    tensors,
    warnings,
  };
  return { model: bytes, report, ...(ranges && { ranges }) };
}

/** What a mode adds to the report. */
type ModeReport = Omit<QuantizeReport, 'mode' | 'bytes' | 'warnings'> & { warnings?: string[] };

async function quantizeGraph(
  graph: Graph,
  options: ResolvedOptions,
  selection: Selection | undefined,
  digest: () => string,
): Promise<{ result: ModeReport; ranges?: CalibrationRanges }> {
  const refusal = (node: Node) => selection?.refusal(node);
  switch (options.mode) {
    case 'static': {
      const { format, activationType, weightType, perChannel } = options;
      const { report, ranges } = await quantizeStatic(graph, options, refusal, digest());
      return { result: { format, activationType, weightType, perChannel, ...report }, ranges };
    }
    case 'dynamic': {
      const { weightType, perChannel } = options;
      const result = quantizeDynamic(graph, options, refusal);
      return { result: { format: 'qoperator', activationType: 'uint8', weightType, perChannel, ...result } };
    }
    case 'weightOnly':
      return { result: { format: options.format, ...quantizeWeightOnly(graph, options, refusal) } };
    case 'qat':
      return { result: { format: options.format, ...importQat(graph, options.format) } };
  }
}

/** Nodes with weights that no mode reaches. */
function nodesInSubgraphs(graph: Graph): FloatNodeReport[] {
  const found: FloatNodeReport[] = [];
  for (const node of graph.nodes) {
    for (const inner of nodesInside(node)) {
      if (lookupOp(inner)?.quant?.kind === 'compute') {
        found.push({ name: inner.name, op: inner.op, reason: `it is in a subgraph of ${node.op}` });
      }
    }
  }
  return found;
}

function* nodesInside(node: Node): Generator<Node> {
  for (const body of subgraphsOf(node)) {
    for (const inner of body.nodes) {
      yield inner;
      yield* nodesInside(inner);
    }
  }
}
