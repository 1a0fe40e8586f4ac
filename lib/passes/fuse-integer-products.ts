/**
 * Dynamic quantization writes MatMulInteger (ConvInteger), Cast, Mul by both scales, and Add of a bias. They become one
 * operator, which scales and adds while the accumulators are in registers. For the runtime only.
 */
import { type Graph, isConcrete, type Node, Value } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** Number of float32 in the attribute `to` of Cast. */
const FLOAT = 1;

/** The parts of float(product) * (activation scale * weight scale) [+ bias]. */
interface Match {
  nodes: Node[];
  activationScale: Value;
  /** The weight's scale, a scalar or one for each column or channel. */
  weightScale: Value;
  scaleNode: Node;
}

/** Needs types. Linear. */
export function fuseIntegerProducts(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const product of graph.topologicalOrder()) {
    if (!isOp(product, 'MatMulInteger', 'ConvInteger')) continue;
    const match = matchFrom(graph, product, captured);
    if (match) changed = rewrite(graph, product, match, captured) || changed;
  }
  return changed;
}

function matchFrom(graph: Graph, product: Node, captured: ReadonlySet<Value>): Match | undefined {
  const cast = onlyConsumer(graph, product.output, captured);
  if (!isOp(cast, 'Cast') || cast.attributes.int('to') !== FLOAT) return undefined;
  const multiply = onlyConsumer(graph, cast.output, captured);
  if (!isOp(multiply, 'Mul') || captured.has(multiply.output)) return undefined;
  const scale = otherInput(multiply, cast.output);
  const scaleNode = scale?.producer;
  if (!isOp(scaleNode, 'Mul') || !graph.nodes.has(scaleNode)) return undefined;
  const [left, right] = [scaleNode.requiredInput(0), scaleNode.requiredInput(1)];
  const [weightScale, activationScale] = floatConstant(right) ? [right, left] : [left, right];
  if (!floatConstant(weightScale) || !isScalar(activationScale)) return undefined;
  return { nodes: [product, cast, multiply], activationScale, weightScale, scaleNode };
}

function rewrite(graph: Graph, product: Node, match: Match, captured: ReadonlySet<Value>): boolean {
  const isMatMul = product.op === 'MatMulInteger';
  const weight = product.requiredInput(1).type?.shape;
  if (!isConcrete(weight) || (isMatMul && weight.length < 2)) return false;
  const channels = isMatMul ? weight[weight.length - 1] : weight[0];
  /** Dimensions that a tensor with one element per channel has behind the one that counts. */
  const trailing = isMatMul ? 0 : weight.length - 2;
  const rank = product.output.type?.shape?.length;
  if (rank === undefined) return false;
  const scale = alongChannels(match.weightScale.constant!, rank, channels, trailing);
  if (!scale) return false;
  let last = match.nodes[match.nodes.length - 1];
  const add = onlyConsumer(graph, last.output, captured);
  const biasValue = isOp(add, 'Add') ? otherInput(add, last.output) : null;
  const constant = floatConstant(biasValue);
  const bias = constant && constant.size === channels ? alongChannels(constant, rank, channels, trailing) : undefined;
  if (add && bias && !captured.has(add.output)) {
    match.nodes.push(add);
    last = add;
  }
  const result = new Value(graph.uniqueName(`${last.output.name}_scaled`), last.output.type);
  const { attributes } = product;
  const [a, b, aZero, bZero] = [0, 1, 2, 3].map((i) => product.input(i));
  for (const node of match.nodes) if (node !== last) graph.removeNode(node);
  graph.addNode({
    name: product.name,
    op: isMatMul ? 'MatMulIntegerToFloat' : 'ConvIntegerToFloat',
    domain: isMatMul ? 'com.microsoft' : 'ai.q8',
    inputs: [
      a,
      b,
      match.activationScale,
      graph.newConstant(`${product.name}_weight_scale`, scale),
      aZero,
      bZero,
      last === add && bias ? graph.newConstant(`${product.name}_bias`, bias) : null,
    ],
    outputs: [result],
    attributes,
  });
  graph.replaceAllUses(last.output, result);
  graph.removeNode(last);
  if (match.scaleNode.output.consumerCount === 0 && !graph.isOutput(match.scaleNode.output))
    graph.removeNode(match.scaleNode);
  return true;
}

/** A scalar, or a tensor that broadcasts along the channels only, as one of rank 0 or 1; undefined for others. */
function alongChannels(tensor: Tensor, rank: number, channels: number, trailing: number): Tensor | undefined {
  if (tensor.dims.length > rank) return undefined;
  if (tensor.size === 1) return tensor.reshape(channels === 1 ? [1] : []);
  const at = tensor.dims.length - 1 - trailing;
  if (tensor.size !== channels || tensor.dims[at] !== channels) return undefined;
  return tensor.reshape([channels]);
}

function isScalar({ type }: Value): boolean {
  return isConcrete(type?.shape) && sizeOf(type.shape) === 1;
}

function otherInput(node: Node, value: Value): Value | null {
  return node.input(node.input(0) === value ? 1 : 0);
}
