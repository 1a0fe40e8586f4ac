/**
 * SmoothQuant (Xiao et al., 2022): a few channels of a transformer's activations are much larger than the others and take all
 * codes of a scale. Channel j is divided by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), and row j of the weight behind it
 * multiplied by s_j. The division is folded into what makes the activation: a LayerNormalization, or a product with a constant
 * vector, which all of its readers must share. Other activations are left alone: a division in a node of its own would cost
 * more time than int8 gains.
 */
import type { Node, Value } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { Algorithm, AlgorithmContext } from './algorithm';
import { channelMaxima, scaleChannels } from './channels';
import { ChannelObserver } from './statistics';

/** Ranges are never shifted further than this. */
const MAX_FACTOR = 1e4;

interface Smoothable {
  value: Value;
  /** Constant vectors of the producer to divide. */
  vectors: Value[];
  /** Weights behind it, with the axis that runs over the channels. */
  weights: { node: Node; value: Value; axis: number }[];
}

export const smoothQuant: Algorithm = {
  changesActivations: true,

  *steps(context) {
    const found = smoothables(context).map((smoothable) => ({ ...smoothable, observer: new ChannelObserver(-1) }));
    yield { requests: found, apply: () => smooth(found, context.smoothQuantAlpha) };
  },
};

function smooth(found: readonly (Smoothable & { observer: ChannelObserver })[], alpha: number): string[] {
  const changed: string[] = [];
  for (const { vectors, weights, observer } of found) {
    const { maxAbs } = observer;
    const rows = weights.map(({ value: weight, axis }) => channelMaxima(weight.constant as Tensor<'float32'>, axis));
    const factors = maxAbs.map((x, j) => {
      const w = Math.max(...rows.map((maxima) => maxima[j]));
      const factor = x ** alpha / w ** (1 - alpha);
      return factor > 1 / MAX_FACTOR && factor < MAX_FACTOR ? factor : 1;
    });
    const inverse = factors.map((factor) => 1 / factor);
    for (const vector of vectors) vector.constant = scaleChannels(vector.constant as Tensor<'float32'>, 0, inverse);
    for (const { node, value: weight, axis } of weights) {
      weight.constant = scaleChannels(weight.constant as Tensor<'float32'>, axis, factors);
      changed.push(node.name);
    }
  }
  return changed;
}

function smoothables({ graph, plan }: AlgorithmContext): Smoothable[] {
  const outputs = new Set(graph.outputs);
  const found: Smoothable[] = [];
  for (const producer of graph.nodes) {
    const value = producer.outputs[0];
    if (!value || outputs.has(value) || value.consumerCount === 0) continue;
    const weights = value.consumers.map((node) => weightOf(node, value, plan.nodes.has(node)));
    if (!weights.every((weight) => weight !== undefined)) continue;
    const { dims } = weights[0].value.constant!;
    const vectors = vectorsOf(producer, dims[weights[0].axis]);
    if (vectors) found.push({ value, vectors, weights });
  }
  return found;
}

/** The weight of a product that reads `value`, if nobody else reads that weight. */
function weightOf(node: Node, value: Value, isQuantized: boolean): Smoothable['weights'][number] | undefined {
  const weight = node.input(1);
  if (!isQuantized || node.input(0) !== value || weight?.constant?.type !== 'float32') return undefined;
  if (weight.consumerCount !== 1 || weight.constant.dims.length !== 2) return undefined;
  if (node.op === 'MatMul') return { node, value: weight, axis: 0 };
  if (node.op !== 'Gemm' || node.attributes.int('transA', 0)) return undefined;
  return { node, value: weight, axis: node.attributes.int('transB', 0) ? 1 : 0 };
}

/** What has to be divided so that the producer's output is; undefined when that cannot be folded. */
function vectorsOf(producer: Node, channels: number): Value[] | undefined {
  const isVector = (value: Value | null): value is Value =>
    value?.constant?.type === 'float32' &&
    value.consumerCount === 1 &&
    value.constant.size === channels &&
    value.constant.dims.length === 1;
  if (producer.op === 'LayerNormalization') {
    const rank = producer.requiredInput(0).type?.shape?.length;
    const axis = producer.attributes.int('axis', -1);
    if (axis !== -1 && axis + 1 !== rank) return undefined;
    const vectors = [producer.input(1), producer.input(2)].filter((input) => input !== null);
    return vectors.length > 0 && vectors.every(isVector) ? vectors : undefined;
  }
  if (producer.op !== 'Mul') return undefined;
  const vector = producer.inputs.find(isVector);
  return vector && [vector];
}
