/**
 * The contract of the algorithms that prepare a float graph so that quantization costs it less. Each is a file of its own
 * with two verbs: which activations it wants to see, and what it then does. The pipeline (index.ts) runs the model once for
 * all wishes of a step.
 */
import type { Graph, Node, Value } from '../../graph/graph';
import type { Formats, WeightFormat } from '../formats';
import type { TensorOverride } from '../overrides';
import type { QuantPlan } from '../plan';

/** Takes in an activation, sample by sample; its sizes may differ from one to the next. */
export interface ActivationObserver {
  observe(data: Float32Array, dims: readonly number[]): void;
}

/** A wish: to see an activation. */
export interface ActivationRequest {
  value: Value;
  observer: ActivationObserver;
}

/** What an algorithm wants to see, and what it then does. */
export interface Step {
  requests: readonly ActivationRequest[];
  /** Changes the graph; returns the names of the nodes whose constants it has changed. */
  apply(): string[] | Promise<string[]>;
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
  signal?: AbortSignal;
  /** Prescribes how codes of a constant are made. */
  prescribe(name: string, override: TensorOverride): void;
}

export interface Algorithm {
  /**
   * Whether it changes what activations hold, and so has to come before calibration; others only touch constants of nodes
   * that will be quantized.
   */
  readonly changesActivations: boolean;
  /** One after the other: a step sees the graph as those before it have left it. */
  steps(context: AlgorithmContext): Iterable<Step>;
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
