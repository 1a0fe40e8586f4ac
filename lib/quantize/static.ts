/** Static quantization: plan, calibrate, insert Q/DQ, and for integer operators fuse them. Each step is a file of its own. */
import type { Graph, Node } from '../graph/graph';
import { lookupOp } from '../ops/registry';
import { fuseQdq } from '../passes/fuse-qdq';
import type { FloatNodeReport, QuantizeReport } from '../report/quantize-report';
import { type Calibration, calibrate } from './calibrate';
import { insertQdq } from './insert-qdq';
import type { ResolvedStaticOptions } from './options';
import { planQuantization } from './plan';

export type StaticResult = Pick<QuantizeReport, 'quantizedNodes' | 'floatNodes' | 'tensors' | 'calibration'> & {
  warnings: string[];
};

/** Changes the prepared `graph`. `refusal` says why a node is not to be quantized. @throws ERR_Q8_INVALID_ARGUMENT for samples that do not fit the model. */
export async function quantizeStatic(
  graph: Graph,
  options: ResolvedStaticOptions,
  refusal: (node: Node) => string | undefined,
): Promise<StaticResult> {
  const plan = planQuantization(graph, { ...options, refusal, traitOf: (node) => lookupOp(node)?.quant });
  const quantizedNodes: Record<string, number> = {};
  for (const { op } of plan.nodes.keys()) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
  const floatNodes = plan.floatNodes.map(
    ({ node, reason }): FloatNodeReport => ({ name: node.name, op: node.op, reason }),
  );
  const warnings: string[] = [];
  if ([...graph.nodes].some((node) => node.op === 'QuantizeLinear' || node.op === 'DequantizeLinear')) {
    warnings.push('The model holds QuantizeLinear or DequantizeLinear nodes already; they were left as they are.');
  }
  const calibration = await calibrate(graph, plan, options);
  warnings.push(...warningsOf(calibration));
  options.onProgress?.({ phase: 'quantize', done: 0, total: 1 });
  const tensors = insertQdq(graph, plan, calibration.ranges, options);
  if (options.format === 'qoperator') fuseQdq(graph);
  const { engine, samples } = calibration;
  return {
    quantizedNodes,
    floatNodes,
    tensors,
    calibration: { method: options.calibrationMethod, engine, samples },
    warnings,
  };
}

function warningsOf({ ranges, nonFinite }: Calibration): string[] {
  const warnings = nonFinite.map((name) => `Tensor "${name}" had NaN or infinite values, which its range leaves out.`);
  for (const [{ name }, { min, max }] of ranges) {
    if (min === 0 && max === 0) warnings.push(`Tensor "${name}" was zero for all samples; its scale is a guess.`);
  }
  return warnings;
}
