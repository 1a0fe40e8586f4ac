/**
 * Bias correction (Nagel et al. 2019, and others): rounding weights shifts the mean of every output channel by
 * sum_k E[x_k] (w'_k - w_k), which the bias takes back. E[x_k] is the mean of input channel k over the samples. Where padding
 * zeros enter a convolution the shift is smaller than this; that is neglected.
 */
import type { Graph, Node, Value } from '../../graph/graph';
import { Tensor } from '../../tensor/tensor';
import type { WeightFormat } from '../formats';
import { quantizeWeight, weightScales } from '../scale';
import { type Algorithm, type AlgorithmContext, weightedNodes } from './algorithm';
import { innerSize } from './channels';
import { ChannelObserver } from './statistics';

/** Where a node's weight has its output channels and its inputs, and where the bias is. */
interface Correctable {
  node: Node;
  weight: Value;
  format: WeightFormat;
  /** The constant to correct, or null: the Conv or Gemm gets a new one. */
  bias: Value | null;
  channels: number;
}

export const correctBias: Algorithm = {
  changesActivations: false,

  *steps(context) {
    const nodes = [...correctables(context)].map((correctable) => {
      const { node } = correctable;
      return {
        ...correctable,
        value: node.requiredInput(0),
        observer: new ChannelObserver(node.op === 'Conv' ? 1 : -1),
      };
    });
    yield { requests: nodes, apply: () => correctAll(context, nodes) };
  },
};

function correctAll(
  { graph }: AlgorithmContext,
  nodes: readonly (Correctable & { observer: ChannelObserver })[],
): string[] {
  const changed: string[] = [];
  for (const { node, weight, format, bias, channels, observer } of nodes) {
    const shift = meanShift(node, weight.constant as Tensor<'float32'>, format, observer.mean, channels);
    if (takeOut(graph, node, bias, shift)) changed.push(node.name);
  }
  return changed;
}

/** Takes the shift of every output channel out of a node's bias, which it gets if it has none. False when that fails. */
export function takeOut(graph: Graph, node: Node, bias: Value | null, shift: Float64Array): boolean {
  const alpha = node.op === 'Gemm' ? node.attributes.float('alpha', 1) : 1;
  const beta = node.op === 'Gemm' ? node.attributes.float('beta', 1) : 1;
  const old = bias?.constant as Tensor<'float32'> | undefined;
  const data = Float32Array.from(shift, (s, c) => (old ? old.data[old.size === 1 ? 0 : c] : 0) - (alpha * s) / beta);
  if (!data.every(Number.isFinite)) return false;
  // Vectors stay vectors; others have sizes of 1 around the channels.
  const dims = old && old.size === shift.length ? old.dims : [shift.length];
  const tensor = new Tensor('float32', data, dims);
  if (bias) bias.constant = tensor;
  else node.setInput(2, graph.newConstant(`${node.name}_bias`, tensor));
  return true;
}

function* correctables(context: AlgorithmContext): Generator<Correctable> {
  for (const { node, weight, index, format } of weightedNodes(context)) {
    if (index !== 1 || node.requiredInput(0).constant) continue;
    const found = correctableBias(node, weight.constant!.dims);
    if (found) yield { node, weight, format, ...found };
  }
}

/** The bias of Conv, Gemm or MatMul that may change for this node alone, and its channels; null: there is none yet. */
export function correctableBias(
  node: Node,
  dims: readonly number[],
): { bias: Value | null; channels: number } | undefined {
  if (node.op === 'MatMul') {
    const bias = dims.length === 2 ? addedVector(node.output) : undefined;
    return bias?.constant?.size === dims[1] ? { bias, channels: dims[1] } : undefined;
  }
  if (node.op !== 'Conv' && (node.op !== 'Gemm' || node.attributes.int('transA', 0))) return undefined;
  const channels = dims[node.op === 'Conv' || node.attributes.int('transB', 0) ? 0 : 1];
  const bias = node.input(2);
  return isOwnBias(bias, channels) ? { bias, channels } : undefined;
}

function isOwnBias(bias: Value | null, channels: number): boolean {
  if (!bias) return true;
  const { constant } = bias;
  return (
    constant?.type === 'float32' && bias.consumerCount === 1 && (constant.size === channels || constant.size === 1)
  );
}

/** The constant that an Add behind a matrix product adds along the last axis. */
function addedVector(product: Value): Value | undefined {
  const [add] = product.consumers;
  if (product.consumerCount !== 1 || add.op !== 'Add') return undefined;
  const other = add.input(0) === product ? add.input(1) : add.input(0);
  const tensor = other?.constant;
  if (!other || tensor?.type !== 'float32' || other.consumerCount !== 1) return undefined;
  return tensor.dims.at(-1) === tensor.size ? other : undefined;
}

/** sum_k mean_k (w'_ck - w_ck) for every output channel c. */
function meanShift(
  node: Node,
  { data, dims }: Tensor<'float32'>,
  format: WeightFormat,
  mean: Float64Array,
  channels: number,
): Float64Array {
  const { granularity, dtype } = format;
  const { scale, zeroPoint } = weightScales(data, dims, granularity, format);
  const codes = quantizeWeight(data, dims, granularity, { scale, zeroPoint, dtype });
  const shift = new Float64Array(channels);
  const group = granularity ? innerSize(dims, granularity.axis) : data.length;
  // [rows, columns] of the weight, and which of them are inputs.
  const columns = innerSize(dims, 0);
  const taps = node.op === 'Conv' ? innerSize(dims, 1) : 1;
  const inputsPerGroup = node.op === 'Conv' ? dims[1] : 0;
  const outputsPerGroup = node.op === 'Conv' ? dims[0] / node.attributes.int('group', 1) : 0;
  const inputsFirst = node.op === 'MatMul' || (node.op === 'Gemm' && !node.attributes.int('transB', 0));
  for (let i = 0; i < data.length; i++) {
    const s = scale.length === 1 ? 0 : Math.floor(i / group) % scale.length;
    const error = (codes[i] - zeroPoint[s]) * scale[s] - data[i];
    const row = Math.floor(i / columns);
    const column = i % columns;
    if (inputsFirst) shift[column] += error * mean[row];
    else if (node.op === 'Conv') {
      const input = Math.floor(row / outputsPerGroup) * inputsPerGroup + Math.floor(column / taps);
      shift[row] += error * mean[input];
    } else shift[row] += error * mean[column];
  }
  return shift;
}
