/**
 * The contract of the algorithms that prepare a float graph so that quantization costs it less. Each is a file of its own
 * with two verbs: which statistics it wants, and what it does with them. The pipeline (index.ts) runs the model for all
 * wishes of an algorithm at once.
 */
import type { Graph, Node, Value } from '../../graph/graph';
import type { Formats, WeightFormat } from '../formats';
import type { QuantPlan } from '../plan';

/** A wish: statistics of an activation for each index of an axis, which may be negative. */
export interface StatisticRequest {
  value: Value;
  axis: number;
}

/** What was seen of a tensor over all samples, by index of the axis. */
export interface ChannelStatistics {
  mean: Float64Array;
  maxAbs: Float64Array;
}

export interface AlgorithmContext {
  /** The prepared float graph, which apply() changes. Constants are replaced as whole tensors. */
  graph: Graph;
  /** What is going to be quantized, and how. */
  plan: QuantPlan;
  /** How weights will get their scales. */
  formats: Formats;
  /** SmoothQuant's migration strength, 0 to 1. */
  smoothQuantAlpha: number;
}

export interface Algorithm {
  /**
   * Whether it changes what activations hold, and so has to come before calibration; others only touch constants of nodes
   * that will be quantized.
   */
  readonly changesActivations: boolean;
  statistics?(context: AlgorithmContext): StatisticRequest[];
  /** Changes the graph; returns the names of the nodes whose constants it has changed. */
  apply(context: AlgorithmContext, statistics: ReadonlyMap<Value, ChannelStatistics>): string[];
}

/** A node that will have an integer weight whose scales follow from the weight. */
export interface WeightedNode {
  node: Node;
  weight: Value;
  /** Index of the weight among the inputs. */
  index: number;
  format: WeightFormat;
  /** Of the scales; undefined when there is one for all. */
  axis: number | undefined;
}

/** Weights with scales per tensor or channel; prescribed ones, and those in blocks, are left out. */
export function* weightedNodes({ plan, formats }: AlgorithmContext): Generator<WeightedNode> {
  for (const [node, { inputs }] of plan.nodes) {
    for (const [index, role] of inputs) {
      const weight = node.input(index);
      if (role.kind !== 'weight' || weight?.constant?.type !== 'float32') continue;
      const format = formats.weight(weight.name, weight.constant.dims.length, node.op, role);
      if (format.fixed || format.ranges || format.granularity?.block) continue;
      yield { node, weight, index, format, axis: format.granularity?.axis };
    }
  }
}
