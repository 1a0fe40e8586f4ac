/**
 * What an operator is: one record per file in this folder. It carries the versions it understands, shape inference, the
 * slow TypeScript run() that defines its meaning, how it takes part in quantization, and how it becomes native steps.
 * Adding an operator: CONTRIBUTING.md.
 */
import type { PackedWeights, ProgramStep } from '../../binding';
import { Q8Error } from '../errors';
import type { Dim, Graph, Node, Value, ValueType } from '../graph/graph';
import type { DType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';

/** What shape inference may ask. Types of inputs are known; absent optional inputs are null. */
export interface InferContext {
  readonly node: Node;
  /** Opset version of the node's domain. */
  readonly opset: number;
  /** Type of input `index`. @throws ERR_Q8_BAD_MODEL when the input is absent. */
  input(index: number): ValueType;
  /** Type of input `index` or null when absent. */
  optionalInput(index: number): ValueType | null;
  /** The data of input `index` when it is a constant (an initializer, or folded before), else undefined. */
  constant(index: number): Tensor | undefined;
  /** The elements of input `index` when it is a piece of a shape: sizes, and symbols of those that are not known. */
  dims(index: number): readonly Dim[] | undefined;
  /** Types of the values that a body returns (If, Loop, Scan): runs inference inside the subgraph. */
  inferSubgraph(graph: Graph, inputTypes: ValueType[]): ValueType[];
  /** A dimension that nothing is known of; each call gives another one. */
  unknownDim(): Dim;
}

export interface RunContext {
  readonly node: Node;
  readonly opset: number;
  /** How many outputs the node has; outputs that nobody wants may be left out at the end. */
  readonly outputCount: number;
  /** Runs a body with the given inputs; captured outer values are resolved by the executor. */
  runSubgraph(graph: Graph, inputs: Tensor[]): Tensor[];
}

/**
 * How an operator takes part in static quantization. No trait = never quantized (the safe default).
 * - compute: has weights; 8-bit inputs and output, int32 bias.
 * - elementwise: float inputs and output get scales of their own (Add, Mul, Concat, AveragePool...).
 * - agnostic: moves codes, or picks some; outputs share the scale of input 0 (Reshape, MaxPool, Transpose...).
 * - clamp: Relu, Clip: folded into the producer's output range when it is the only consumer; else elementwise.
 * - fixed: like elementwise, but the output range is known in advance (Softmax, Sigmoid).
 * - weights: only the weights become codes; they are dequantized before use.
 */
export type QuantTrait =
  | ComputeTrait
  | ElementwiseTrait
  | (TraitConditions & {
      kind: 'agnostic';
      /** Constant data to choose from is a table of codes, dequantized behind the node (Gather). */
      table?: true;
      /** Constant data becomes codes like an activation, whose scale the output has. */
      readsTable?: true;
    })
  | { kind: 'clamp' }
  | { kind: 'fixed'; range: (node: Node) => [number, number] }
  | { kind: 'weights'; weights: readonly { input: number; axis: number }[] };

interface TraitConditions {
  /** When false for a node, the node stays float; the reason is reported. */
  when?: (node: Node) => true | string;
  /**
   * Nodes for which no CPU runtime has a form on codes. They compute in float between DQ and Q, which only pays on
   * accelerators, and are quantized only with `operators: 'all'`.
   */
  floatOnly?: (node: Node) => boolean;
}

export interface ComputeTrait extends TraitConditions {
  kind: 'compute';
  /** Index of the weight. */
  weight: number;
  bias?: number;
  /** Output channel axis of the weight; undefined: one scale for all. */
  axis: number | ((node: Node, weightRank: number) => number | undefined);
  /** False: one scale even where one per channel is asked for. */
  perChannel?: false;
  /** Constants in place of activations are weights too. */
  constantsAreWeights?: true;
  /** Inputs that take part; default: all. */
  inputs?: readonly number[];
}

export interface ElementwiseTrait extends TraitConditions {
  kind: 'elementwise';
  /** Inputs that take part; default: all. */
  inputs?: readonly number[];
  /**
   * The output consists of elements of the inputs, which may therefore share its scale. 'required': there is a form on
   * codes only when they do.
   */
  selects?: 'optional' | 'required';
  /** The output lies within the range of input 0, whose scale it may share. */
  averages?: true;
  /** An operand may push values far away, to hide them from a Softmax. */
  masks?: true;
}

/**
 * Physical order of a tensor in a program: 'row' = as ONNX writes it; 'nhwc' = channels last, for values of rank 3 to 5
 * [N, C, ...spatial] -> [N, ...spatial, C].
 */
export type Layout = 'row' | 'nhwc';

/** A tensor in the program under construction. `shape` is the physical shape in its layout. */
export interface Slot {
  readonly id: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly layout: Layout;
}

/** What lower() works with. All shapes are concrete. Implemented by lib/runtime/compile.ts. */
export interface LowerContext {
  readonly node: Node;
  readonly opset: number;
  /** Shape of a value in ONNX order. */
  shape(value: Value): readonly number[];
  dtype(value: Value): DType;
  /** The data when the value is constant in this plan (initializers and everything computed from shapes). */
  constant(value: Value | null): Tensor | undefined;
  /** Layouts in which the value exists already; prefer one of them. */
  layouts(value: Value): readonly Layout[];
  /**
   * The value in the wanted layout, converted (once) when it does not exist in it; no copy when both orders are the same (one
   * channel, or one pixel). Constants become constant slots.
   */
  slot(value: Value, layout: Layout): Slot;
  /** Allocates the slot of an output of this node in a layout. */
  output(value: Value, layout: Layout): Slot;
  /** A temporary. */
  temporary(dtype: DType, shape: readonly number[]): Slot;
  /** A constant slot with given data. */
  constantSlot(tensor: Tensor): Slot;
  /** Makes an output the same memory as an existing slot (Reshape and friends: no copy). Shape is the physical one. */
  alias(value: Value, of: Slot, layout: Layout): void;
  emit(step: ProgramStep): void;
  /**
   * Something built once per process for a node's constants (packed weights), kept while any session uses it. `key` tells
   * different uses of one tensor apart.
   */
  shared<T extends PackedWeights>(tensor: Tensor, key: string, make: () => T): T;
  /** The binding's packers, so that operators need no import of the addon. */
  readonly pack: typeof import('../../binding');
}

export interface OpDefinition {
  readonly type: string;
  /** '' is ai.onnx. */
  readonly domain: string;
  /** Versions in which the operator changed and that this file handles, ascending; older models are upgraded or refused. */
  readonly since: readonly number[];
  /** Output types from input types. May return fewer than outputCount when the rest is absent. */
  inferShape(context: InferContext): ValueType[];
  /** The meaning, in plain TypeScript: the oracle of tests, constant folding, and the fall-back. Never mutates inputs. */
  run(inputs: (Tensor | null)[], context: RunContext): Tensor[];
  /** Its part in quantization, which may depend on the node. */
  readonly quant?: QuantTrait | ((node: Node) => QuantTrait);
  /** Emits native steps and returns true; returns false when this node (attributes, types, ranks) has no native road. */
  lower?(context: LowerContext): boolean;
}

/** Identity with checks, for a uniform look of operator files. */
export function defineOp(definition: Omit<OpDefinition, 'domain'> & { domain?: string }): OpDefinition {
  const since = definition.since;
  if (since.length === 0 || since.some((v, i) => i > 0 && v <= since[i - 1])) {
    throw new Q8Error('ERR_Q8_INTERNAL', `Operator ${definition.type} must list its versions in ascending order.`);
  }
  return { ...definition, domain: definition.domain ?? '' };
}
