/** Static quantization: plan, calibrate, insert Q/DQ, and for integer operators fuse them. Each step is a file of its own. */
import type { Graph, Node, Value } from '../graph/graph';
import { lookupOp } from '../ops/registry';
import { fuseQdq } from '../passes/fuse-qdq';
import { NEWEST_UPGRADE, upgradeOpset } from '../passes/upgrade-opset';
import type { FloatNodeReport, QuantizeReport, TensorReport } from '../report/quantize-report';
import { changesActivations, runAlgorithms } from './algorithms';
import { revertLayers } from './algorithms/revert-layers';
import { analyze } from './analyze';
import { calibrate, takeSamples } from './calibrate';
import { checkOnnxruntimeNodes, isForced, onnxruntimeTrait } from './compat';
import { Formats } from './formats';
import { insertQdq } from './insert-qdq';
import type { ResolvedStaticOptions } from './options';
import { checkOverriddenTensors, type TensorOverride } from './overrides';
import { type PlanOptions, planQuantization, type QuantPlan } from './plan';
import { type CalibrationRanges, checkRangesOfModel, rangesFor, settingsOf, type WantedCalibration } from './ranges';
import { needsOpset21 } from './representation';
import type { Range } from './scale';

export interface StaticResult {
  report: Pick<
    QuantizeReport,
    'quantizedNodes' | 'floatNodes' | 'tensors' | 'calibration' | 'algorithms' | 'accuracy' | 'analysis'
  > & { warnings: string[] };
  /** Every range that was used, to be given to later calls; absent when algorithms have changed what activations hold. */
  ranges?: CalibrationRanges;
}

/** Samples on which algorithms and judges run the model; more would take longer and say little more. */
const SAMPLES = 32;
const REVERTED = 'put back into float: the accuracy asked for needs it';

/**
 * Changes the prepared `graph`.
 * @param refusal says why a node is not to be quantized.
 * @param digest of the model that the graph comes from.
 * @throws ERR_Q8_INVALID_ARGUMENT for samples and ranges that do not fit the model.
 */
export async function quantizeStatic(
  graph: Graph,
  given: ResolvedStaticOptions,
  refusal: (node: Node) => string | undefined,
  digest: string,
): Promise<StaticResult> {
  // Algorithms may prescribe how codes of a constant are made.
  const overrides: Record<string, TensorOverride> = { ...given.overrides };
  const options = { ...given, overrides };
  const { threads, signal, onProgress } = options;
  if (options.ranges) checkRangesOfModel(options.ranges, digest);
  if (needsOpset21(options)) upgradeOpset(graph, NEWEST_UPGRADE);
  const planOf = makePlanner(graph, options, refusal);
  const warnings: string[] = [];
  if ([...graph.nodes].some((node) => node.op === 'QuantizeLinear' || node.op === 'DequantizeLinear')) {
    warnings.push('The model holds QuantizeLinear or DequantizeLinear nodes already; they were left as they are.');
  }
  const first = planOf(graph);
  checkOverriddenTensors(graph, first, options.overrides);
  if (options.compat) checkOnnxruntimeNodes(first);

  const needsSamples = options.algorithms.length > 0 || options.accuracy || options.analyze;
  const samples = needsSamples ? await takeSamples(options.calibration!, graph, SAMPLES) : [];
  const prescribe = (name: string, override: TensorOverride): void => {
    overrides[name] = override;
  };
  const ladder = { ...options, formats: new Formats(options), plan: planOf, samples, prescribe };
  const algorithms = await runAlgorithms(graph, 'before calibration', ladder);
  const calibration = await rangesOf(graph, planOf(graph), options);
  warnings.push(...warningsOf(calibration));
  onProgress?.({ phase: 'quantize', done: 0, total: 1 });
  // What int8 is judged by: the float model as it was calibrated.
  const reference = options.accuracy || options.analyze ? graph.clone() : undefined;
  algorithms.push(...(await runAlgorithms(graph, 'after calibration', ladder)));

  const insert = async (into: Graph, plan: QuantPlan): Promise<TensorReport[]> => {
    await observeMissing(reference ?? graph, plan, calibration, options);
    const observed = plan.observed.flatMap((value) => {
      const range = calibration.ranges.get(value.name);
      return range ? [[value, range] as const] : [];
    });
    return insertQdq(into, plan, new Map(observed), options);
  };
  const accuracy =
    options.accuracy &&
    (await revertLayers({
      reference: reference!,
      accuracy: options.accuracy,
      samples,
      threads,
      signal,
      onAttempt: (done) => onProgress?.({ phase: 'revert', done, total: undefined }),
      async quantizeWithout(excluded) {
        const copy = graph.clone();
        await insert(copy, planOf(copy, excluded));
        return copy;
      },
    }));
  if (accuracy && !accuracy.reached) {
    warnings.push(`The accuracy asked for is out of reach: ${accuracy.after} instead of ${accuracy.wanted}.`);
  }
  const plan = planOf(graph, new Set(accuracy?.reverted));
  const quantizedNodes: Record<string, number> = {};
  for (const { op } of plan.nodes.keys()) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
  const floatNodes = plan.floatNodes.map(
    ({ node, reason }): FloatNodeReport => ({ name: node.name, op: node.op, reason }),
  );
  const tensors = await insert(graph, plan);
  if (options.format === 'qoperator') fuseQdq(graph);
  const analysis =
    options.analyze &&
    (await analyze(reference!, graph, samples, {
      latency: options.analyze.latency,
      threads,
      signal,
      onSample: (done) => onProgress?.({ phase: 'analyze', done, total: samples.length }),
    }));
  const { engine, ranges, settings } = calibration;
  return {
    report: {
      quantizedNodes,
      floatNodes,
      tensors,
      calibration: { method: settings.method ?? 'given', samples: calibration.samples, ...(engine && { engine }) },
      ...(algorithms.length > 0 && { algorithms }),
      ...(accuracy && { accuracy }),
      ...(analysis && { analysis }),
      warnings,
    },
    ...(changesActivations(options.algorithms)
      ? {}
      : {
          ranges: {
            ...settings,
            samples: calibration.samples,
            ...(engine && { engine }),
            model: digest,
            tensors: Object.fromEntries([...ranges].map(([name, { min, max }]) => [name, [min, max]])),
          },
        }),
  };
}

/** Plans the graph or a copy of it, with some nodes left in float. */
function makePlanner(
  graph: Graph,
  options: ResolvedStaticOptions,
  refusal: (node: Node) => string | undefined,
): (graph: Graph, reverted?: ReadonlySet<string>) => QuantPlan {
  const refused = new Map([...graph.nodes].map((node) => [node.name, refusal(node)]));
  return (of, reverted) =>
    planQuantization(of, {
      ...options,
      refusal: ({ name }) => refused.get(name) ?? (reverted?.has(name) ? REVERTED : undefined),
      ...participation(options),
    });
}

/** Other choices of nodes may group tensors otherwise and ask for ranges that were not observed. */
async function observeMissing(
  graph: Graph,
  plan: QuantPlan,
  { ranges }: AllRanges,
  options: ResolvedStaticOptions,
): Promise<void> {
  const needed = observedOf(plan, new Formats(options));
  const missing = new Set(needed.flatMap(({ name }) => (ranges.has(name) ? [] : [name])));
  if (missing.size === 0 || !options.calibration || !options.accuracy) return;
  const values = [...graph.inputs, ...[...graph.nodes].flatMap((node) => node.outputs)];
  const wanted = values.filter((value): value is Value => value !== null && missing.has(value.name));
  const found = await calibrate(graph, wanted, { ...options, calibration: options.calibration });
  for (const [{ name }, range] of found.ranges) ranges.set(name, range);
}

/** How operators take part. */
export function participation(
  options: ResolvedStaticOptions,
): Pick<PlanOptions, 'traitOf' | 'isForced' | 'pullUp' | 'clampsStayFloat' | 'operators' | 'shareScales'> {
  const { compat, format, activationSymmetric, nnapiSigmoid, operators, shareScales } = options;
  if (!compat) return { traitOf: (node) => lookupOp(node)?.quant, operators, shareScales };
  return {
    traitOf: (node) => onnxruntimeTrait(node, format, nnapiSigmoid),
    isForced: (node) => isForced(node, format),
    pullUp: false,
    operators: 'all',
    shareScales: 'never',
    clampsStayFloat: format === 'qoperator' && activationSymmetric,
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
function observedOf({ observed, activations, unions }: QuantPlan, formats: Formats): Value[] {
  const needed = new Set<Value>();
  for (const [value, head] of activations) {
    if (!formats.needsRange(value.name, head.name)) continue;
    for (const member of unions.get(head) ?? [head]) needed.add(member);
  }
  return observed.filter((value) => needed.has(value));
}

function warningsOf({ ranges, nonFinite }: { ranges: Map<string, Range>; nonFinite: readonly string[] }): string[] {
  const warnings = nonFinite.map((name) => `Tensor "${name}" had NaN or infinite values, which its range leaves out.`);
  for (const [name, { min, max }] of ranges) {
    if (min === 0 && max === 0) warnings.push(`Tensor "${name}" was zero for all samples; its scale is a guess.`);
  }
  return warnings;
}
