/** Static quantization: plan, calibrate, insert Q/DQ, and for integer operators fuse them. Each step is a file of its own. */
import type { Graph, Node, Value } from '../graph/graph';
import { lookupOp } from '../ops/registry';
import { fuseQdq } from '../passes/fuse-qdq';
import { NEWEST_UPGRADE, upgradeOpset } from '../passes/upgrade-opset';
import type { FloatNodeReport, QuantizeReport } from '../report/quantize-report';
import { calibrate } from './calibrate';
import { Formats } from './formats';
import { insertQdq } from './insert-qdq';
import type { ResolvedStaticOptions } from './options';
import { checkOverriddenTensors } from './overrides';
import { planQuantization, type QuantPlan } from './plan';
import { type CalibrationRanges, checkRangesOfModel, rangesFor, settingsOf, type WantedCalibration } from './ranges';
import { needsOpset21 } from './representation';
import type { Range } from './scale';

export interface StaticResult {
  report: Pick<QuantizeReport, 'quantizedNodes' | 'floatNodes' | 'tensors' | 'calibration'> & { warnings: string[] };
  /** Every range that was used, to be given to later calls. */
  ranges: CalibrationRanges;
}

/**
 * Changes the prepared `graph`.
 * @param refusal says why a node is not to be quantized.
 * @param digest of the model that the graph comes from.
 * @throws ERR_Q8_INVALID_ARGUMENT for samples and ranges that do not fit the model.
 */
export async function quantizeStatic(
  graph: Graph,
  options: ResolvedStaticOptions,
  refusal: (node: Node) => string | undefined,
  digest: string,
): Promise<StaticResult> {
  if (options.ranges) checkRangesOfModel(options.ranges, digest);
  if (needsOpset21(options)) upgradeOpset(graph, NEWEST_UPGRADE);
  const plan = planQuantization(graph, { ...options, refusal, traitOf: (node) => lookupOp(node)?.quant });
  checkOverriddenTensors(graph, plan, options.overrides);
  const quantizedNodes: Record<string, number> = {};
  for (const { op } of plan.nodes.keys()) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
  const floatNodes = plan.floatNodes.map(
    ({ node, reason }): FloatNodeReport => ({ name: node.name, op: node.op, reason }),
  );
  const warnings: string[] = [];
  if ([...graph.nodes].some((node) => node.op === 'QuantizeLinear' || node.op === 'DequantizeLinear')) {
    warnings.push('The model holds QuantizeLinear or DequantizeLinear nodes already; they were left as they are.');
  }
  const calibration = await rangesOf(graph, plan, options);
  warnings.push(...warningsOf(calibration));
  options.onProgress?.({ phase: 'quantize', done: 0, total: 1 });
  const observed = new Map(
    plan.observed.flatMap((value) => {
      const range = calibration.ranges.get(value.name);
      return range ? [[value, range] as const] : [];
    }),
  );
  const tensors = insertQdq(graph, plan, observed, options);
  if (options.format === 'qoperator') fuseQdq(graph);
  const { samples, engine, ranges, settings } = calibration;
  return {
    report: {
      quantizedNodes,
      floatNodes,
      tensors,
      calibration: { method: settings.method ?? 'given', samples, ...(engine && { engine }) },
      warnings,
    },
    ranges: {
      ...settings,
      samples,
      ...(engine && { engine }),
      model: digest,
      tensors: Object.fromEntries([...ranges].map(([name, { min, max }]) => [name, [min, max]])),
    },
  };
}

/** Ranges by tensor, and where they come from. */
interface AllRanges {
  ranges: Map<string, Range>;
  nonFinite: readonly string[];
  samples: number;
  engine?: 'ort' | 'q8';
  settings: WantedCalibration;
}

/** The ranges that the plan asks for: those given, and from calibration those that are not. */
async function rangesOf(graph: Graph, plan: QuantPlan, options: ResolvedStaticOptions): Promise<AllRanges> {
  const { ranges: given, calibration } = options;
  const observed = observedOf(plan, new Formats(options));
  const names = observed.map(({ name }) => name);
  const known = given ? rangesFor(given, names, calibration === undefined) : new Map<string, Range>();
  const rest = observed.filter(({ name }) => !known.has(name));
  if (given && (calibration === undefined || rest.length === 0)) {
    const { samples = 0, engine, tensors, model, ...settings } = given;
    return { ranges: known, nonFinite: [], samples, engine, settings };
  }
  const found = await calibrate(graph, rest, { ...options, calibration: calibration! });
  for (const [{ name }, range] of found.ranges) known.set(name, range);
  return { ...found, ranges: known, settings: settingsOf(options) };
}

/** What is left to observe once overrides have said what they prescribe. */
function observedOf({ observed, activations }: QuantPlan, formats: Formats): Value[] {
  const needed = new Set<Value>();
  for (const [value, head] of activations) if (formats.needsRange(value.name, value === head)) needed.add(head);
  return observed.filter((value) => needed.has(value));
}

function warningsOf({ ranges, nonFinite }: { ranges: Map<string, Range>; nonFinite: readonly string[] }): string[] {
  const warnings = nonFinite.map((name) => `Tensor "${name}" had NaN or infinite values, which its range leaves out.`);
  for (const [name, { min, max }] of ranges) {
    if (min === 0 && max === 0) warnings.push(`Tensor "${name}" was zero for all samples; its scale is a guess.`);
  }
  return warnings;
}
