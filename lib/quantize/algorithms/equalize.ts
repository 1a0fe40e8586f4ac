/**
 * Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019):
 * between two layers, channel i may be divided by s_i in the first and multiplied by s_i in the second, when everything in
 * between commutes with positive factors. s_i = sqrt(r1_i / r2_i) gives channel i the same largest weight r in both, so that
 * one scale per tensor suits all channels. Per-channel scales gain less from it.
 */
import type { Node, Value } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { Algorithm, AlgorithmContext } from './algorithm';
import { channelMaxima, scaleChannels } from './channels';

/** f(s x) = s f(x) for s > 0, channel by channel. */
const HOMOGENEOUS = new Set(['Relu', 'LeakyRelu', 'MaxPool', 'AveragePool', 'GlobalAveragePool', 'GlobalMaxPool']);
/** A chain settles in a few rounds; each round visits every pair. */
const ROUNDS = 20;
/** Factors beyond this only move the trouble from weights to activations. */
const MAX_FACTOR = 1e4;

/** A constant of a layer, and its axis that runs over the channels between the two layers. */
interface Slices {
  value: Value;
  axis: number;
}

interface Pair {
  first: Node;
  second: Node;
  /** Weight and bias of the first layer. */
  outgoing: Slices;
  bias: Value | undefined;
  incoming: Slices;
}

export const equalize: Algorithm = {
  changesActivations: true,

  *steps(context) {
    yield { requests: [], apply: () => equalizePairs(context) };
  },
};

function equalizePairs(context: AlgorithmContext): string[] {
  const pairs = pairsOf(context);
  for (let round = 0; round < ROUNDS; round++) {
    const moved = pairs.map(equalizePair);
    if (!moved.includes(true)) break;
  }
  return pairs.flatMap(({ first, second }) => [first.name, second.name]);
}

function pairsOf({ graph, plan }: AlgorithmContext): Pair[] {
  const outputs = new Set(graph.outputs);
  const pairs: Pair[] = [];
  for (const first of plan.nodes.keys()) {
    const outgoing = outgoingWeight(first);
    if (!outgoing) continue;
    let value = first.output;
    let second: Node | undefined;
    while (value.consumerCount === 1 && !outputs.has(value)) {
      [second] = value.consumers;
      if (!HOMOGENEOUS.has(second.op) || second.outputs.length > 1) break;
      value = second.output;
      second = undefined;
    }
    const incoming = second && plan.nodes.has(second) && second.input(0) === value ? incomingWeight(second) : undefined;
    if (!second || !incoming || incoming.value === outgoing.value) continue;
    const channels = outgoing.value.constant!.dims[outgoing.axis];
    const bias = first.input(2) ?? undefined;
    if (incoming.value.constant!.dims[incoming.axis] !== channels || !fits(bias, channels)) continue;
    pairs.push({ first, second, outgoing, bias, incoming });
  }
  return pairs;
}

function fits(bias: Value | undefined, channels: number): boolean {
  return !bias || (isOwn(bias) && bias.constant!.dims.length === 1 && bias.constant!.size === channels);
}

/** Whether the value is a float constant that nobody else reads. */
function isOwn(value: Value | null | undefined): value is Value {
  return value?.constant?.type === 'float32' && value.consumerCount === 1;
}

function outgoingWeight(node: Node): Slices | undefined {
  const value = node.input(1);
  if (!isOwn(value) || (node.op !== 'Conv' && node.op !== 'Gemm')) return undefined;
  return { value, axis: node.op === 'Conv' || node.attributes.int('transB', 0) ? 0 : 1 };
}

function incomingWeight(node: Node): Slices | undefined {
  const value = node.input(1);
  if (!isOwn(value)) return undefined;
  if (node.op === 'Gemm' && !node.attributes.int('transA', 0)) {
    return { value, axis: node.attributes.int('transB', 0) ? 1 : 0 };
  }
  if (node.op !== 'Conv') return undefined;
  const group = node.attributes.int('group', 1);
  if (group === 1) return { value, axis: 1 };
  // Depthwise: one filter for each channel.
  const { dims } = value.constant!;
  return group === dims[0] && dims[1] === 1 ? { value, axis: 0 } : undefined;
}

/** Returns whether something changed noticeably. */
function equalizePair({ outgoing, bias, incoming }: Pair): boolean {
  const first = outgoing.value.constant as Tensor<'float32'>;
  const second = incoming.value.constant as Tensor<'float32'>;
  const r1 = channelMaxima(first, outgoing.axis);
  const r2 = channelMaxima(second, incoming.axis);
  const factors = r1.map((r, i) => {
    const factor = Math.sqrt(r / r2[i]);
    // A channel without weights on one side stays as it is.
    return factor > 0 && factor < MAX_FACTOR && factor > 1 / MAX_FACTOR ? factor : 1;
  });
  if (factors.every((factor) => Math.abs(factor - 1) < 1e-3)) return false;
  const inverse = factors.map((factor) => 1 / factor);
  outgoing.value.constant = scaleChannels(first, outgoing.axis, inverse);
  if (bias) bias.constant = scaleChannels(bias.constant as Tensor<'float32'>, 0, inverse);
  incoming.value.constant = scaleChannels(second, incoming.axis, factors);
  return true;
}
