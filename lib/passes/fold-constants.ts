/** Computes at load time what does not depend on the inputs. */
import { Q8Error } from '../errors';
import { type Graph, isConcrete, type Node, subgraphsOf, type Value } from '../graph/graph';
import { type Inference, RANDOM_OPS } from '../graph/infer';
import { lookupOp } from '../ops/registry';
import { bytesOf } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';

export interface FoldOptions {
  /** What shape inference found: values that it could compute from shapes become constants too. */
  inference?: Inference;
  /**
   * Whether DequantizeLinear of constants is folded too. Off by default: it would turn 8-bit weights into float before
   * anything had the chance to use them as they are.
   */
  dequantize?: boolean;
  /** Bytes that all folded results of the graph may take together. Default 64 MiB. */
  maxBytes?: number;
}

const DEFAULT_MAX_BYTES = 64 * 2 ** 20;
/** Results larger than this stay computations when they are also... */
const LARGE_BYTES = 2 ** 20;
/** ...so many times larger than what they are made from: an Expand of a scalar is cheaper than its data. */
const MAX_GROWTH = 8;

/** Replaces nodes whose inputs are all constant by their results, bodies included. Each node runs at most once. */
export function foldConstants(graph: Graph, options: FoldOptions = {}): boolean {
  return fold(graph, options, { bytes: options.maxBytes ?? DEFAULT_MAX_BYTES });
}

function fold(graph: Graph, options: FoldOptions, budget: { bytes: number }): boolean {
  let changed = false;
  for (const node of graph.topologicalOrder()) {
    const bodies = subgraphsOf(node);
    for (const body of bodies) changed = fold(body, options, budget) || changed;
    if (bodies.length > 0 || (!options.dequantize && node.op === 'DequantizeLinear')) continue;
    const results = inferredResults(graph, node, options.inference) ?? computedResults(graph, node, budget.bytes);
    if (!results) continue;
    for (const tensor of results) budget.bytes -= tensor ? tensor.size * bytesOf(tensor.type) : 0;
    graph.removeNode(node);
    node.outputs.forEach((value, i) => {
      if (value) makeConstant(value, results[i]!);
    });
    changed = true;
  }
  return changed;
}

/** Results that shape inference has. Not inside bodies: a loop may carry other shapes in each round. */
function inferredResults(graph: Graph, node: Node, inference: Inference | undefined): (Tensor | null)[] | undefined {
  if (!inference || graph.parent !== null) return undefined;
  const results = node.outputs.map((value) => value && inference.constantOf(value));
  return results.some((tensor) => tensor === undefined) ? undefined : (results as (Tensor | null)[]);
}

function computedResults(graph: Graph, node: Node, budget: number): (Tensor | null)[] | undefined {
  const definition = lookupOp(node);
  if (!definition || RANDOM_OPS.has(node.op) || node.inputs.length === 0) return undefined;
  if (node.inputs.some((value) => value && !value.constant)) return undefined;
  const inputs = node.inputs.map((value) => value?.constant ?? null);
  const inputBytes = inputs.reduce((sum, tensor) => sum + (tensor ? tensor.size * bytesOf(tensor.type) : 0), 0);
  const bytes = outputBytes(node.outputs);
  if (bytes === undefined ? inputBytes > LARGE_BYTES : bytes > budget) return undefined;
  if (bytes !== undefined && bytes > LARGE_BYTES && bytes > MAX_GROWTH * inputBytes) return undefined;
  try {
    const results = definition.run(inputs, {
      node,
      opset: graph.opset(node.domain),
      outputCount: node.outputs.length,
      runSubgraph: refuseBodies,
    });
    return node.outputs.every((value, i) => !value || results[i]) ? results : undefined;
  } catch (error) {
    // The node stays, and fails with the same message if it is ever run.
    if (error instanceof Q8Error) return undefined;
    throw error;
  }
}

function refuseBodies(): never {
  throw new Q8Error('ERR_Q8_INTERNAL', 'Control flow is not folded.');
}

/** Bytes of the outputs, undefined when inference does not know them. */
function outputBytes(outputs: readonly (Value | null)[]): number | undefined {
  let total = 0;
  for (const value of outputs) {
    if (!value) continue;
    if (!isConcrete(value.type?.shape)) return undefined;
    total += value.type.shape.reduce((size, dim) => size * dim, bytesOf(value.type.dtype));
  }
  return total;
}

function makeConstant(value: Value, tensor: Tensor): void {
  value.constant = tensor;
  value.type = { dtype: tensor.type, shape: tensor.dims };
}
