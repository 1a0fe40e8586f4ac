/**
 * Folds what follows a float convolution or Gemm channel by channel into its weights and bias: BatchNormalization, and
 * Mul, Div, Add and Sub by constants. Fewer steps, and the quantizer sees the weights that the hardware will see.
 */
import type { Graph, Node, Value } from '../graph/graph';
import { toDoubles } from '../ops/families/values';
import { stridesOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** y = scale[c] * x + shift[c] for output channel c. */
interface Affine {
  scale: Float64Array;
  shift: Float64Array;
}

/** Folds until nothing is left to fold; every node is looked at once. Sums are rounded to float32 once per fold. */
export function foldBatchNorm(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const producer of graph.topologicalOrder()) {
    if (!isOp(producer, 'Conv', 'ConvTranspose', 'Gemm')) continue;
    const channels = outputChannels(producer);
    if (channels === undefined) continue;
    for (;;) {
      const next = onlyConsumer(graph, producer.output, captured);
      const affine = next && affineOf(next, producer, channels);
      if (!next || !affine || captured.has(next.output)) break;
      apply(graph, producer, affine, channels);
      graph.replaceAllUses(next.output, producer.output);
      producer.output.type = next.output.type ?? producer.output.type;
      graph.removeNode(next);
      changed = true;
    }
  }
  return changed;
}

/** The number of output channels, when weights and bias are float32 constants in a form that can be scaled. */
function outputChannels(node: Node): number | undefined {
  const weight = floatConstant(node.input(1));
  const bias = node.input(2);
  if (!weight || (bias && !floatConstant(bias))) return undefined;
  if (node.attributes.has('q8_min') || node.attributes.has('q8_max')) return undefined;
  if (node.op === 'Gemm') {
    if (node.attributes.float('alpha', 1) !== 1 || node.attributes.float('beta', 1) !== 1) return undefined;
    if (weight.dims.length !== 2) return undefined;
    const n = node.attributes.int('transB', 0) ? weight.dims[0] : weight.dims[1];
    return !bias || bias.constant!.size === 1 || bias.constant!.size === n ? n : undefined;
  }
  if (weight.dims.length < 3) return undefined;
  return node.op === 'Conv' ? weight.dims[0] : weight.dims[1] * node.attributes.int('group', 1);
}

function affineOf(next: Node, producer: Node, channels: number): Affine | undefined {
  if (isOp(next, 'BatchNormalization')) {
    return next.input(0) === producer.output ? batchNormAffine(next, channels) : undefined;
  }
  if (!isOp(next, 'Mul', 'Div', 'Add', 'Sub')) return undefined;
  const left = next.input(0) === producer.output;
  const other = floatConstant(next.input(left ? 1 : 0));
  // Gemm's rank is 2; a convolution's is its weights'.
  const rank = producer.op === 'Gemm' ? 2 : producer.requiredInput(1).constant!.dims.length;
  const values = other && perChannel(other, rank, channels);
  if (!values || (!left && (next.op === 'Div' || next.op === 'Sub'))) return undefined;
  const ones = new Float64Array(channels).fill(1);
  const zeros = new Float64Array(channels);
  switch (next.op) {
    case 'Mul':
      return { scale: values, shift: zeros };
    case 'Div':
      return values.includes(0) ? undefined : { scale: values.map((v) => 1 / v), shift: zeros };
    case 'Add':
      return { scale: ones, shift: values };
    default:
      return { scale: ones, shift: values.map((v) => -v) };
  }
}

function batchNormAffine(node: Node, channels: number): Affine | undefined {
  if (node.attributes.int('training_mode', 0) !== 0) return undefined;
  if (node.outputs.some((value, i) => i > 0 && value && value.consumerCount > 0)) return undefined;
  const parameters = [1, 2, 3, 4].map((i) => floatConstant(node.input(i)));
  if (parameters.some((tensor) => tensor?.size !== channels)) return undefined;
  const [gamma, beta, mean, variance] = parameters.map((tensor) => toDoubles(tensor!));
  const epsilon = node.attributes.float('epsilon', 1e-5);
  const scale = gamma.map((g, c) => g / Math.sqrt(variance[c] + epsilon));
  return { scale, shift: beta.map((b, c) => b - mean[c] * scale[c]) };
}

/** A constant as one number per channel (axis 1 of `rank`), or undefined when it varies along another axis. */
function perChannel(tensor: Tensor, rank: number, channels: number): Float64Array | undefined {
  if (tensor.dims.length > rank) return undefined;
  const values = toDoubles(tensor);
  if (values.length === 1) return new Float64Array(channels).fill(values[0]);
  const channelAxis = tensor.dims.length - rank + 1;
  return values.length === channels && tensor.dims[channelAxis] === channels ? values : undefined;
}

function apply(graph: Graph, node: Node, { scale, shift }: Affine, channels: number): void {
  const weight = floatConstant(node.input(1))!;
  const data = new Float32Array(weight.size);
  const channelOf = channelIndexer(node, weight.dims);
  for (let i = 0; i < data.length; i++) data[i] = weight.data[i] * scale[channelOf(i)];
  node.setInput(1, replacement(graph, node.requiredInput(1), new Tensor('float32', data, weight.dims)));
  const bias = node.input(2);
  const old = bias ? toDoubles(bias.constant!) : new Float64Array(1);
  const next = new Float32Array(channels);
  for (let c = 0; c < channels; c++) next[c] = old[old.length === 1 ? 0 : c] * scale[c] + shift[c];
  if (bias || next.some((b) => b !== 0)) {
    const tensor = new Tensor('float32', next, [channels]);
    node.setInput(2, bias ? replacement(graph, bias, tensor) : graph.newConstant(`${node.name}_bias`, tensor));
  }
}

/** Output channel of each weight element. */
function channelIndexer(node: Node, dims: readonly number[]): (index: number) => number {
  const strides = stridesOf(dims);
  if (node.op === 'Conv') return (i) => Math.floor(i / strides[0]);
  if (node.op === 'Gemm') {
    return node.attributes.int('transB', 0) ? (i) => Math.floor(i / strides[0]) : (i) => i % dims[1];
  }
  const group = node.attributes.int('group', 1);
  const inPerGroup = dims[0] / group;
  return (i) => Math.floor(i / strides[0] / inPerGroup) * dims[1] + (Math.floor(i / strides[1]) % dims[1]);
}

/** A constant that takes the place of `old`, and its name when nobody else reads it. */
function replacement(graph: Graph, old: Value, tensor: Tensor): Value {
  if (old.consumerCount > 1 || graph.isOutput(old)) return graph.newConstant(old.name, tensor);
  old.constant = tensor;
  old.type = { dtype: tensor.type, shape: tensor.dims };
  return old;
}
