/**
 * quantize(): float ONNX model in, int8 ONNX model out. Read, prepare, plan, calibrate, insert Q/DQ, fuse, write; each
 * step is a file or pass of its own.
 */
import { expected } from '../errors';
import { graphFromProto } from '../graph/from-proto';
import { type Graph, type Node, subgraphsOf } from '../graph/graph';
import { graphToProto } from '../graph/to-proto';
import { readModel } from '../onnx/read';
import { writeModel } from '../onnx/write';
import { lookupOp } from '../ops/registry';
import { prepare } from '../passes';
import { fuseQdq } from '../passes/fuse-qdq';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import type { FloatNodeReport, QuantizeReport } from '../report/quantize-report';
import { type Calibration, calibrate } from './calibrate';
import { insertQdq } from './insert-qdq';
import { checkNames, type QuantizeOptions, type ResolvedOptions, resolveOptions } from './options';
import { planQuantization, type QuantPlan } from './plan';

export type { CalibrationMethod, FloatNodeReport, QuantizeReport, TensorReport } from '../report/quantize-report';
export type { CalibrationFeed, EngineName, QuantizeOptions, QuantizeProgress, StaticQuantizeOptions } from './options';

export interface QuantizeResult {
  /** The bytes of the quantized ONNX model. */
  model: Uint8Array;
  report: QuantizeReport;
}

/**
 * Quantizes a float32 ONNX model to int8.
 *
 * @param model path of an .onnx file, or its bytes (which must not change until the promise settles).
 * @param options see {@link StaticQuantizeOptions}; `mode` and `calibration` are required.
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
  const { model: proto } = await readModel(model, baseDirectory === undefined ? {} : { baseDirectory });
  const graph = graphFromProto(proto);
  const named = new Set([...graph.nodes].map((node) => node.name));
  const opTypes = new Set([...graph.nodes].map((node) => node.op));
  prepare(graph);
  for (const node of graph.nodes) {
    named.add(node.name);
    opTypes.add(node.op);
  }
  checkNames('nodesToExclude', resolved.nodesToExclude, named, 'a node of the model');
  checkNames('nodesToQuantize', resolved.nodesToQuantize, named, 'a node of the model');
  checkNames('opTypes', resolved.opTypes, opTypes, 'an operator type that the model uses');

  const plan = planQuantization(graph, { ...resolved, traitOf: (node) => lookupOp(node)?.quant });
  const floatBytes = writeModel(graphToProto(graph)).byteLength;
  const calibration = await calibrate(graph, plan, resolved);
  onProgress?.({ phase: 'quantize', done: 0, total: 1 });
  const report = startReport(graph, plan, calibration, resolved);
  report.tensors = insertQdq(graph, plan, calibration.ranges, resolved);
  if (resolved.format === 'qoperator') fuseQdq(graph);
  removeDeadNodes(graph);
  const bytes = writeModel(graphToProto(graph));
  report.bytes = { float: floatBytes, quantized: bytes.byteLength };
  onProgress?.({ phase: 'quantize', done: 1, total: 1 });
  return { model: bytes, report };
}

/** Everything that is known before the graph changes. */
function startReport(
  graph: Graph,
  plan: QuantPlan,
  calibration: Calibration,
  options: ResolvedOptions,
): QuantizeReport {
  const quantizedNodes: Record<string, number> = {};
  for (const { op } of plan.nodes.keys()) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
  const floatNodes = plan.floatNodes.map(
    ({ node, reason }): FloatNodeReport => ({ name: node.name, op: node.op, reason }),
  );
  for (const node of graph.nodes) {
    for (const inner of nodesInside(node)) {
      if (lookupOp(inner)?.quant?.kind === 'compute') {
        floatNodes.push({ name: inner.name, op: inner.op, reason: `it is in a subgraph of ${node.op}` });
      }
    }
  }
  return {
    mode: options.mode,
    format: options.format,
    activationType: options.activationType,
    weightType: options.weightType,
    perChannel: options.perChannel,
    calibration: { method: options.calibrationMethod, engine: calibration.engine, samples: calibration.samples },
    bytes: { float: 0, quantized: 0 },
    quantizedNodes,
    floatNodes,
    tensors: [],
    warnings: warningsOf(graph, plan, calibration),
  };
}

function* nodesInside(node: Node): Generator<Node> {
  for (const body of subgraphsOf(node)) {
    for (const inner of body.nodes) {
      yield inner;
      yield* nodesInside(inner);
    }
  }
}

function warningsOf(graph: Graph, plan: QuantPlan, { ranges, nonFinite }: Calibration): string[] {
  const warnings: string[] = [];
  if ([...graph.nodes].some((node) => node.op === 'QuantizeLinear' || node.op === 'DequantizeLinear')) {
    warnings.push('The model holds QuantizeLinear or DequantizeLinear nodes already; they were left as they are.');
  }
  if (plan.nodes.size === 0) warnings.push('No node could be quantized; the reasons are in floatNodes.');
  for (const name of nonFinite)
    warnings.push(`Tensor "${name}" had NaN or infinite values, which its range leaves out.`);
  for (const [{ name }, { min, max }] of ranges) {
    if (min === 0 && max === 0) warnings.push(`Tensor "${name}" was zero for all samples; its scale is a guess.`);
  }
  return warnings;
}
