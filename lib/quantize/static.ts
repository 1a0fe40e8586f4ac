/** Static quantization: plan, calibrate, insert Q/DQ, and for integer operators fuse them. Each step is a file of its own. */
import { Q8Error } from '../errors';
import { graphsOf, inEveryBody, inEveryGraph, nodesOf } from '../graph/bodies';
import type { Graph, Node, Value } from '../graph/graph';
import { quantTraitOf } from '../ops/registry';
import { fuseQdq } from '../passes/fuse-qdq';
import { ALL_CODES_OPSET, upgradeOpset } from '../passes/upgrade-opset';
import { checkSupport } from '../runtime/check-support';
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
import { qnnOverrides } from './qnn';
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
const NEVER_RAN = 'its body did not run on any sample';
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
  const overrides: Record<string, TensorOverride> = {
    ...(given.target === 'qnn' ? qnnOverrides(graph, given) : given.overrides),
  };
  const options = { ...given, overrides };
  const { threads, signal, onProgress } = options;
  if (options.ranges) checkRangesOfModel(options.ranges, digest);
  if (needsOpset21(options)) upgradeOpset(graph, ALL_CODES_OPSET);
  const planOf = makePlanner(graph, options, refusal);
  const warnings: string[] = [];
  if ([...nodesOf(graph)].some((node) => node.op === 'QuantizeLinear' || node.op === 'DequantizeLinear')) {
    warnings.push('The model holds QuantizeLinear or DequantizeLinear nodes already; they were left as they are.');
  }
  const plans: QuantPlan[] = [];
  inEveryGraph(graph, (each) => plans.push(planOf(each)));
  checkOverriddenTensors(graph, plans, given.overrides);
  if (options.compat) plans.forEach(checkOnnxruntimeNodes);

  const needsSamples = options.algorithms.length > 0 || options.accuracy || options.analyze;
  const samples = needsSamples ? await takeSamples(options.calibration!, graph, SAMPLES) : [];
  const prescribe = (name: string, override: TensorOverride): void => {
    overrides[name] = override;
  };
  const ladder = { ...options, formats: new Formats(options), plan: planOf, samples, prescribe };
  const algorithms = await runAlgorithms(graph, 'before calibration', ladder);
  const calibration = await rangesOf(graph, planOf, options);
  warnings.push(...warningsOf(calibration));
  onProgress?.({ phase: 'quantize', done: 0, total: 1 });
  // What int8 is judged by: the float model as it was calibrated.
  const reference = options.accuracy || options.analyze ? graph.clone() : undefined;
  algorithms.push(...(await runAlgorithms(graph, 'after calibration', ladder)));

  const insert = async (into: Graph, excluded?: ReadonlySet<string>): Promise<Inserted> => {
    await observeMissing(reference ?? graph, planOf(into, excluded), calibration, options);
    return insertEverywhere(into, (each) => planOf(each, excluded), calibration, options);
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
        await insert(copy, excluded);
        return copy;
      },
    }));
  if (accuracy && !accuracy.reached) {
    warnings.push(`The accuracy asked for is out of reach: ${accuracy.after} instead of ${accuracy.wanted}.`);
  }
  const { quantizedNodes, floatNodes, tensors } = await insert(graph, new Set(accuracy?.reverted));
  if (options.format === 'qoperator') inEveryGraph(graph, (each) => fuseQdq(each));
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

/** What became of the nodes and tensors of a graph and its bodies. */
type Inserted = Pick<QuantizeReport, 'quantizedNodes' | 'floatNodes' | 'tensors'>;

/** Puts Q/DQ pairs into the graph and those of its bodies that ran during calibration. */
function insertEverywhere(
  graph: Graph,
  planOf: (graph: Graph) => QuantPlan,
  { ranges, unseen = NEVER_RAN }: AllRanges,
  options: ResolvedStaticOptions,
): Inserted {
  const quantizedNodes: Record<string, number> = {};
  const floatNodes: FloatNodeReport[] = [];
  const tensors: TensorReport[] = [];
  const formats = new Formats(options);
  inEveryGraph(graph, (each) => {
    const plan = planOf(each);
    for (const { node, reason } of plan.floatNodes) floatNodes.push({ name: node.name, op: node.op, reason });
    if (each !== graph && observedOf(plan, formats).some(({ name }) => !ranges.has(name))) {
      for (const { name, op } of plan.nodes.keys()) floatNodes.push({ name, op, reason: unseen });
      return;
    }
    for (const { op } of plan.nodes.keys()) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
    const observed = plan.observed.flatMap((value) => {
      const range = ranges.get(value.name);
      return range ? [[value, range] as const] : [];
    });
    tensors.push(...insertQdq(each, plan, new Map(observed), options));
  });
  return { quantizedNodes, floatNodes, tensors };
}

/** Plans the graph, a body of it, isolated, or a copy of either, with some nodes left in float. */
function makePlanner(
  graph: Graph,
  options: ResolvedStaticOptions,
  refusal: (node: Node) => string | undefined,
): (graph: Graph, reverted?: ReadonlySet<string>) => QuantPlan {
  const refused = new Map([...nodesOf(graph)].map((node) => [node.name, refusal(node)]));
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
  if (!compat) return { traitOf: quantTraitOf, operators, shareScales };
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
  /** Why there are no ranges of bodies, when that is not because of the samples. */
  unseen?: string;
}

/** The ranges that the plans ask for: those given, and from calibration those that are not. */
async function rangesOf(
  graph: Graph,
  planOf: (graph: Graph) => QuantPlan,
  options: ResolvedStaticOptions,
): Promise<AllRanges> {
  const { ranges: given, calibration } = options;
  const { own, inside } = observedIn(graph, planOf, new Formats(options));
  const known = new Map<string, Range>();
  if (given) {
    // What the model itself needs must be there; bodies may not have run when the ranges were found.
    const names = own.map(({ name }) => name);
    for (const [name, range] of rangesFor(given, names, calibration === undefined)) known.set(name, range);
    for (const { name } of inside) {
      if (!Object.hasOwn(given.tensors, name)) continue;
      const [min, max] = given.tensors[name];
      known.set(name, { min, max });
    }
  }
  const unseen = inside.length > 0 ? unseenBodies(graph) : undefined;
  const rest = [...own, ...(unseen ? [] : inside)].filter(({ name }) => !known.has(name));
  if (given && (calibration === undefined || rest.length === 0)) {
    const { samples = 0, engine, tensors, model, ...settings } = given;
    return { ranges: known, nonFinite: [], samples, engine, settings };
  }
  const found = await calibrate(graph, rest, { ...options, calibration: calibration! });
  for (const [{ name }, range] of found.ranges) known.set(name, range);
  return { ...found, ranges: known, settings: settingsOf(options), ...(unseen && { unseen }) };
}

/** Bodies run in q8, which may lack an operator that the engine of the model has. */
function unseenBodies(graph: Graph): string | undefined {
  try {
    checkSupport(graph);
    return undefined;
  } catch (error) {
    if (error instanceof Q8Error && error.code === 'ERR_Q8_UNSUPPORTED_OP')
      return `q8 looks into bodies by running the model, and cannot: ${error.message}`;
    throw error;
  }
}

/** What the plan of the graph observes, and what those of its bodies do besides. */
function observedIn(
  graph: Graph,
  planOf: (graph: Graph) => QuantPlan,
  formats: Formats,
): { own: Value[]; inside: Value[] } {
  const own = observedOf(planOf(graph), formats);
  const names: string[] = [];
  inEveryBody(graph, (body) => names.push(...observedOf(planOf(body), formats).map(({ name }) => name)));
  if (names.length === 0) return { own, inside: [] };
  // Bodies were planned with stand-ins for what they read from around them.
  const values = new Map<string, Value>();
  for (const { inputs, nodes } of graphsOf(graph)) {
    for (const value of inputs) values.set(value.name, value);
    for (const { outputs } of nodes) for (const value of outputs) if (value) values.set(value.name, value);
  }
  const inside = new Set(names.map((name) => values.get(name)!));
  for (const value of own) inside.delete(value);
  return { own, inside: [...inside] };
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
