/** What quantize() would do with a model, without data and without doing it. */
import { inEveryGraph } from '../graph/bodies';
import type { Node } from '../graph/graph';
import type { FloatNodeReport, QuantizeReport, SettingReport, TensorReport } from '../report/quantize-report';
import { Formats } from './formats';
import { quantize } from './index';
import { loadGraph } from './load';
import { type QuantizeOptions, type ResolvedStaticOptions, resolveOptions } from './options';
import { refusals } from './refusals';
import { planQuantization, type QuantPlan } from './plan';
import { participation } from './static';

/** A weight of a node, and how many scales its codes will have: one, one per channel, or one per block. */
export interface PlannedWeight {
  name: string;
  type: TensorReport['type'];
  scales: 'tensor' | 'channel' | 'block';
  /** Elements of a block. */
  block?: number;
}

export interface PlannedNode {
  name: string;
  op: string;
  /** Tensors that it reads as codes. Empty for an activation function that its producer takes over. */
  inputs: string[];
  weights: PlannedWeight[];
  /** Tensors that it gives as codes. */
  outputs: string[];
}

export interface QuantizationPlan {
  mode: QuantizeReport['mode'];
  format: QuantizeReport['format'];
  activationType?: string;
  weightType?: string;
  /** In modes 'static' and 'dynamic': how tensors will be represented, and why. */
  settings?: readonly SettingReport[];
  /** How many nodes will be quantized, by operator type. */
  quantizedNodes: Record<string, number>;
  floatNodes: FloatNodeReport[];
  /** In mode 'static': the nodes that will be quantized, in execution order. */
  nodes?: PlannedNode[];
  /** In mode 'static': tensors whose ranges calibration will find. */
  calibrated?: string[];
  /** In mode 'static': tensors whose codes have the scale of another one, by name. */
  sharedScales?: Record<string, string>;
  /** In the other modes: the constants that become codes, and the sizes of the model, which need no data. */
  weights?: PlannedWeight[];
  bytes?: QuantizeReport['bytes'];
}

/**
 * The plan of {@link quantize} for a model: what would be quantized, how, and what would stay in float and why. Takes the same
 * options; `calibration` may be left out. Layers that the option `accuracy` may put back are not known yet.
 *
 * @throws as quantize() does for wrong options and models.
 */
export async function explain(model: string | Uint8Array, options: QuantizeOptions): Promise<QuantizationPlan> {
  if (options?.mode !== 'static') {
    const { report } = await quantize(model, options);
    const { mode, format, activationType, weightType, settings, quantizedNodes, floatNodes, tensors, bytes } = report;
    const weights = tensors.filter(({ kind }) => kind === 'weight');
    return {
      mode,
      format,
      activationType,
      weightType,
      ...(settings && { settings }),
      quantizedNodes,
      floatNodes,
      weights: weights.map(({ name, type, scale, block }) => ({
        name,
        type,
        scales: block ? 'block' : scale.length > 1 ? 'channel' : 'tensor',
        ...(block && { block }),
      })),
      bytes,
    };
  }
  const resolved = resolveOptions({ ...options, calibration: options.calibration ?? [] }) as ResolvedStaticOptions;
  const { graph, selection } = await loadGraph(model, resolved);
  const plans: QuantPlan[] = [];
  const refusal = refusals(graph, resolved, selection);
  inEveryGraph(graph, (each) => {
    plans.push(planQuantization(each, { ...resolved, refusal, ...participation(resolved) }));
  });
  const planned = plans.flatMap(({ nodes }) => [...nodes]);
  const quantizedNodes: Record<string, number> = {};
  for (const [{ op }] of planned) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
  const formats = new Formats(resolved);
  const { mode, format, activationType, weightType, settings } = resolved;
  return {
    mode,
    format,
    activationType,
    weightType,
    settings,
    quantizedNodes,
    floatNodes: plans.flatMap(({ floatNodes }) =>
      floatNodes.map(({ node: { name, op }, reason }) => ({ name, op, reason })),
    ),
    nodes: planned.map(([node, roles]) => describeNode(node, roles, formats)),
    sharedScales: Object.fromEntries(
      plans.flatMap(({ activations }) =>
        [...activations].flatMap(([value, head]) => (value === head ? [] : [[value.name, head.name]])),
      ),
    ),
    calibrated: [...new Set(plans.flatMap(({ observed }) => observed.map(({ name }) => name)))],
  };
}

type NodePlan = QuantPlan['nodes'] extends Map<Node, infer T> ? T : never;

function describeNode(node: Node, { inputs, outputs }: NodePlan, formats: Formats): PlannedNode {
  const weights: PlannedWeight[] = [];
  const read: string[] = [];
  for (const [index, role] of inputs) {
    const { name, constant } = node.requiredInput(index);
    if (role.kind === 'activation') read.push(name);
    if (role.kind !== 'weight' || !constant) continue;
    const { dtype, granularity } = formats.weight(name, constant.dims.length, node.op, role);
    const scales = granularity?.block ? 'block' : granularity ? 'channel' : 'tensor';
    weights.push({ name, type: dtype, scales, ...(granularity?.block && { block: granularity.block }) });
  }
  return { name: node.name, op: node.op, inputs: read, weights, outputs: outputs.map(({ name }) => name) };
}
