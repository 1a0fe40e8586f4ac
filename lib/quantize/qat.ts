/**
 * Models that were trained with quantization: their Q/DQ nodes hold all scales already. They stay Q/DQ models, with weights
 * as codes, or become integer operators.
 */
import { Q8Error } from '../errors';
import { inEveryGraph, nodesOf } from '../graph/bodies';
import type { Graph, Node } from '../graph/graph';
import { inferShapes } from '../graph/infer';
import { fuseQdq } from '../passes/fuse-qdq';
import { isDequantize, isQuantize, paramsOf } from '../passes/qdq-pairs';
import { lookupOp, quantTraitOf } from '../ops/registry';
import type { FloatNodeReport, TensorReport } from '../report/quantize-report';

export interface QatResult {
  quantizedNodes: Record<string, number>;
  floatNodes: FloatNodeReport[];
  tensors: TensorReport[];
}

/**
 * Changes `graph`, whose constants are folded (which has made codes of weights), and says what integer operators take over.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT when the model holds no Q/DQ nodes.
 */
export function importQat(graph: Graph, format: 'qoperator' | 'qdq'): QatResult {
  const nodes = [...nodesOf(graph)];
  if (!nodes.some(isQuantize) || !nodes.some(isDequantize)) {
    throw new Q8Error(
      'ERR_Q8_INVALID_ARGUMENT',
      'Expected QuantizeLinear and DequantizeLinear nodes in the model for mode "qat" but found none.',
      { hint: 'a float model takes mode "static" or "dynamic".' },
    );
  }
  const tensors = nodes.flatMap((node) => tensorReport(node) ?? []);
  // On a copy when the model keeps its form: what a runtime will do with it is worth reporting all the same.
  const fused = format === 'qoperator' ? graph : graph.clone();
  inEveryGraph(fused, (each) => fuseQdq(each));
  inferShapes(fused, lookupOp);
  const floating = new Set([...nodesOf(fused)].flatMap((node) => (makesCodes(node) ? [] : [keyOf(node)])));
  const quantizedNodes: Record<string, number> = {};
  const floatNodes: FloatNodeReport[] = [];
  for (const node of nodes) {
    if (isQuantize(node) || isDequantize(node)) continue;
    const { name, op } = node;
    if (!floating.has(keyOf(node))) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
    else if (quantTraitOf(node)) floatNodes.push({ name, op, reason: NOT_FUSED });
  }
  return { quantizedNodes, floatNodes, tensors };
}

const NOT_FUSED = 'no integer operator covers it with the Q/DQ nodes around it';

function keyOf({ op, name }: Node): string {
  return `${op} ${name}`;
}

function makesCodes(node: Node): boolean {
  const dtype = node.outputs[0]?.type?.dtype;
  return dtype === 'uint8' || dtype === 'int8';
}

/** What a QuantizeLinear of an activation or a DequantizeLinear of a constant says of its tensor. */
function tensorReport(node: Node): TensorReport | undefined {
  if (!isQuantize(node) && !isDequantize(node)) return undefined;
  const params = paramsOf(node);
  const value = node.requiredInput(0);
  if (!params || (isDequantize(node) && !value.constant)) return undefined;
  const { dtype, scale, zeroPoint, axis } = params;
  return {
    name: value.name,
    kind: isQuantize(node) ? 'activation' : dtype === 'int32' ? 'bias' : 'weight',
    type: dtype,
    scale: [...scale],
    zeroPoint: [...zeroPoint],
    ...(axis === undefined ? {} : { axis }),
  };
}
