/**
 * Decides, before any data is seen, which nodes are quantized and how each of their tensors is represented. Works from the
 * quantization traits of lib/ops alone. One pass in execution order, one back; linear.
 *
 * A compute node (Conv, Gemm, MatMul) is quantized whenever its tensors allow it. Everything else only follows: it pays
 * when its input exists as codes already, and costs accuracy for nothing when it does not.
 *
 * Tensors that share a scale form a group. What moves codes joins the group of its input. What puts elements of several
 * tensors into one (Concat, Where, Max) takes the groups that nobody else reads into its own: the scale of the result is
 * the one that its readers see in any case, so this costs nothing, saves a rounding, and leaves codes to be copied.
 */
import { expected } from '../errors';
import type { Graph, Node, Value } from '../graph/graph';
import type { ComputeTrait, ElementwiseTrait, QuantTrait } from '../ops/define-op';
import type { Representation } from './representation';
import type { Range } from './scale';

/** What an input of a quantized node becomes. Other inputs (shapes, indices, bounds) stay as they are. */
export type InputRole =
  /** Goes through QuantizeLinear and DequantizeLinear. */
  | { kind: 'activation' }
  /**
   * Constant with weight type and symmetry; scales along `axis`, if given. `outputAxis`: that of the output channels, which
   * a bias has. `sumAxis`: that along which products are summed, for matrices.
   */
  | { kind: 'weight'; axis?: number; outputAxis?: number; sumAxis?: number }
  /** Constant with activation type: an operand of Add, Mul, Concat...; on the scale of the activation `like`, if given. */
  | { kind: 'constant'; like?: Value }
  /** Constant with weight type from which the node takes elements, as codes that are dequantized behind it. */
  | { kind: 'table'; axis: number | undefined }
  /** int32, scale = input scale * weight scale. */
  | { kind: 'bias' };

export interface NodePlan {
  /** By input index; inputs that are not listed stay as they are. */
  inputs: Map<number, InputRole>;
  /** The outputs that become codes. For a node folded with the clamp behind it, this is the clamp's output. */
  outputs: Value[];
}

export interface FloatNode {
  node: Node;
  reason: string;
}

export interface QuantPlan {
  /** In execution order. Clamps that are folded into their producer have no inputs of their own. */
  nodes: Map<Node, NodePlan>;
  /**
   * Every activation that becomes codes -> the activation whose scale it takes: itself, the head of its group, or a constant
   * table.
   */
  activations: Map<Value, Value>;
  /** Values whose range calibration has to find. */
  observed: Value[];
  /** Heads whose range is the union of those of several values, which are observed or known. Others have their own. */
  unions: Map<Value, readonly Value[]>;
  /** Values whose range is known without data. */
  knownRanges: Map<Value, Range>;
  /** Of these, heads whose 8-bit codes have a prescribed scale, with the low end of the type as zero point. */
  knownScales: Map<Value, number>;
  floatNodes: FloatNode[];
  /** Nodes that were asked to stay as they are. */
  refused: Set<Node>;
}

export interface PlanOptions
  extends Partial<
    Pick<
      Representation,
      | 'perChannel'
      | 'channelAxis'
      | 'quantizeBias'
      | 'constantWeightsOnly'
      | 'floatOutputsOf'
      | 'nnapiSigmoid'
      | 'operators'
      | 'shareScales'
      | 'overrides'
    >
  > {
  /** Why a node is not to be quantized, when that was asked for. */
  refusal: (node: Node) => string | undefined;
  traitOf: (node: Node) => QuantTrait | undefined;
  /** Elementwise nodes that are quantized whatever makes their inputs. Default: none. */
  isForced?: (node: Node) => boolean;
  /** Whether Relu and Clip stay float nodes between codes, instead of being part of a range. Default false. */
  clampsStayFloat?: boolean;
  /** Whether nodes that move elements are quantized for what they feed. Default true. */
  pullUp?: boolean;
}

/** @param graph the prepared float graph: types known, constants folded. Not changed. */
export function planQuantization(graph: Graph, options: PlanOptions): QuantPlan {
  return new Planner(graph, options).plan();
}

/** Operators that are about quantization already. */
const QUANTIZERS = new Set(['QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear']);

class Planner {
  readonly #graph: Graph;
  readonly #options: PlanOptions;
  readonly #outputs: ReadonlySet<Value>;
  /** Values that a subgraph reads by reference: they must stay float. */
  readonly #captured = new Set<Value>();
  readonly #nodes = new Map<Node, NodePlan>();
  readonly #floatNodes = new Map<Node, string>();
  readonly #refused = new Set<Node>();
  /** Values that exist as codes because a quantized node makes them. */
  readonly #codes = new Set<Value>();
  /** Value -> the value whose scale it shares, one step towards the head. */
  readonly #sharesWith = new Map<Value, Value>();
  /** By head: how often values of the group are read from outside of it. Groups of one value need no entry. */
  readonly #readers = new Map<Value, number>();
  /** By head: the values whose ranges the scale has to cover, where that is not the head alone. */
  readonly #unions = new Map<Value, Value[]>();
  readonly #knownRanges = new Map<Value, Range>();
  readonly #knownScales = new Map<Value, number>();
  readonly #floatOutputs: ReadonlySet<string>;

  constructor(graph: Graph, options: PlanOptions) {
    this.#graph = graph;
    this.#options = options;
    this.#outputs = new Set(graph.outputs);
    this.#floatOutputs = new Set(options.floatOutputsOf);
    for (const node of graph.nodes) for (const value of graph.capturedBy(node)) this.#captured.add(value);
  }

  plan(): QuantPlan {
    const order = this.#graph.topologicalOrder();
    const waiting: Node[] = [];
    for (const node of order) {
      if (this.#nodes.has(node) || QUANTIZERS.has(node.op)) continue;
      const verdict = this.#consider(node);
      if (verdict === true) continue;
      if (node.outputs.some((value) => value?.type === undefined || isReal(value))) this.#floatNodes.set(node, verdict);
      if (verdict === NO_CODES && this.#options.traitOf(node)?.kind === 'agnostic') waiting.push(node);
    }
    // Moving codes is cheaper than moving floats: what only feeds quantized nodes is quantized before the move.
    if (this.#options.pullUp === false) waiting.length = 0;
    for (const node of waiting.reverse()) {
      const isFree = node.outputs.every((value) => !value || !this.#sharesWith.has(value));
      if (isFree && this.#feedsOnlyQuantized(node)) this.#shareThrough(node);
    }

    const plan: QuantPlan = {
      nodes: new Map(order.flatMap((node) => (this.#nodes.has(node) ? [[node, this.#nodes.get(node)!] as const] : []))),
      activations: new Map(),
      observed: [],
      unions: new Map(),
      knownRanges: this.#knownRanges,
      knownScales: this.#knownScales,
      floatNodes: order.flatMap((node) => {
        const reason = this.#floatNodes.get(node);
        return reason === undefined ? [] : [{ node, reason }];
      }),
      refused: this.#refused,
    };
    const heads = new Set<Value>();
    for (const [node, { inputs, outputs }] of plan.nodes) {
      const values = [...outputs];
      for (const [index, role] of inputs) if (role.kind === 'activation') values.unshift(node.requiredInput(index));
      for (const value of values) {
        const head = this.#headOf(value);
        plan.activations.set(value, head);
        heads.add(head);
      }
    }
    const observed = new Set<Value>();
    for (const head of heads) {
      const union = this.#unions.get(head);
      if (union) plan.unions.set(head, union);
      for (const value of union ?? [head]) if (!this.#knownRanges.has(value) && !value.constant) observed.add(value);
    }
    plan.observed = [...observed];
    return plan;
  }

  /** Quantizes the node, or says why not. */
  #consider(node: Node): true | string {
    const trait = node.domain === '' || node.domain === 'com.microsoft' ? this.#options.traitOf(node) : undefined;
    const refused = this.#options.refusal(node);
    if (refused) this.#refused.add(node);
    if (!trait) return `q8 does not quantize ${node.op}`;
    if (refused) return refused;
    if ('when' in trait && trait.when) {
      const verdict = trait.when(node);
      if (verdict !== true) return verdict;
    }
    if (node.outputs.some((value) => value && this.#captured.has(value))) return 'a subgraph reads its output';
    // Which of its elements is the largest, and the like, can be asked of codes.
    if (trait.kind !== 'agnostic' && !isFloat(node.output)) return typeReason('output', node.output);
    const inFloat = 'floatOnly' in trait && trait.floatOnly?.(node) && !this.#coversAll;
    switch (trait.kind) {
      case 'compute':
        return inFloat ? this.#weightOnly(node, trait) : this.#compute(node, trait);
      case 'elementwise':
        return inFloat ? NO_FORM : this.#elementwise(node, trait);
      case 'fixed': {
        const verdict = this.#elementwise(node, ONE_INPUT, false);
        if (verdict === true) this.#setKnown(node, trait.range(node));
        return verdict;
      }
      case 'clamp':
        if (this.#options.clampsStayFloat) return 'it clamps floats between symmetric codes';
        return boundsAreConstant(node) ? this.#elementwise(node, ONE_INPUT, false) : 'its bounds are not constant';
      case 'weights':
        return this.#weights(node, trait.weights);
      case 'agnostic': {
        const input = node.requiredInput(0);
        if (!isFloat(input)) return typeReason('input', input);
        if (trait.table && input.constant && input.constant.dims.length > 1) return this.#table(node, input);
        if (inFloat) return NO_FORM;
        if (input.constant ? !trait.readsTable : !this.#codes.has(input)) return NO_CODES;
        this.#shareThrough(node);
        return true;
      }
    }
  }

  /** Only the weights become codes. */
  #weights(node: Node, weights: readonly { input: number; axis: number | undefined }[]): true | string {
    const inputs = new Map<number, InputRole>();
    for (const { input, axis } of weights) {
      const value = node.requiredInput(input);
      if (!value.constant || !isFloat(value)) continue;
      const chosen = this.#chosenAxis(node, value.constant.dims.length) ?? axis;
      inputs.set(input, { kind: 'weight', axis: this.#options.perChannel ? chosen : undefined });
    }
    if (inputs.size === 0) return 'its weights are not float32 constants';
    this.#nodes.set(node, { inputs, outputs: [] });
    return true;
  }

  /** A compute node without a form on codes: its weights are worth storing as codes when they are more than a vector. */
  #weightOnly(node: Node, trait: ComputeTrait): true | string {
    const weight = node.requiredInput(trait.weight).constant;
    if (!weight || weight.dims.length < 2) return NO_FORM;
    return this.#weights(node, [{ input: trait.weight, axis: axisOf(trait, node, weight.dims.length) }]);
  }

  /** Codes of the table are gathered; with a scale per column when the rows are what is gathered. */
  #table(node: Node, table: Value): true | string {
    const byColumn =
      this.#options.perChannel && table.constant!.dims.length === 2 && node.attributes.int('axis', 0) === 0;
    this.#nodes.set(node, { inputs: new Map([[0, { kind: 'table', axis: byColumn ? 1 : undefined }]]), outputs: [] });
    return true;
  }

  #compute(node: Node, trait: ComputeTrait): true | string {
    const inputs = new Map<number, InputRole>();
    for (const index of trait.inputs ?? node.inputs.keys()) {
      const value = node.input(index);
      if (!value) continue;
      if (!isFloat(value)) return typeReason(`input ${index}`, value);
      if (index === trait.bias) {
        if (value.constant) inputs.set(index, { kind: 'bias' });
        else if (this.#options.quantizeBias !== false) return 'its bias is not constant';
      } else if ((index === trait.weight || trait.constantsAreWeights) && value.constant) {
        const rank = value.constant.dims.length;
        const outputAxis = axisOf(trait, node, rank);
        const { perChannel } = this.#options;
        const chosen = this.#chosenAxis(node, rank);
        const axis = chosen ?? outputAxis;
        const sumAxis = rank === 2 && outputAxis !== undefined ? 1 - outputAxis : undefined;
        inputs.set(index, {
          kind: 'weight',
          axis: perChannel && (chosen ?? trait.perChannel) !== false ? axis : undefined,
          outputAxis,
          sumAxis,
        });
      } else if (value.constant) {
        inputs.set(index, { kind: 'constant' });
      } else {
        inputs.set(index, { kind: 'activation' });
      }
    }
    const weight = node.requiredInput(trait.weight);
    const bias = trait.bias === undefined ? undefined : node.input(trait.bias)?.constant;
    if (weight.constant && node.requiredInput(0).constant) return 'all its inputs are constant';
    if (weight.constant && bias && bias.size !== 1) {
      const { dims } = weight.constant;
      const axis = axisOf(trait, node, dims.length);
      // Groups of a transposed convolution share the scales of their channels.
      const groups = node.op === 'ConvTranspose' && axis === 1 ? node.attributes.int('group', 1) : 1;
      const channels = axis === undefined ? weight.constant.size : dims[axis] * groups;
      if (bias.size !== channels) return 'its bias does not have one element per output channel';
    }
    if (!weight.constant) {
      if (this.#options.constantWeightsOnly) return 'its weight is not constant, and constantWeightsOnly is set';
      // Only a matrix product takes two activations; its int32 bias and alpha would need the weight at hand.
      if (node.op !== 'MatMul' && node.op !== 'Gemm') return 'its weight is not constant';
      if (trait.bias !== undefined && node.input(trait.bias)) return 'it has a bias but its weight is not constant';
      if (node.attributes.float('alpha', 1) !== 1) return 'it has an alpha but its weight is not constant';
    }
    this.#accept(node, inputs);
    return true;
  }

  /** The axis that the option channelAxis names for this type of operator. */
  #chosenAxis(node: Node, rank: number): number | undefined {
    const axis = this.#options.channelAxis?.[node.op];
    if (axis === undefined || (axis >= -rank && axis < rank))
      return axis !== undefined && axis < 0 ? axis + rank : axis;
    const name = `the option channelAxis of ${node.op}`;
    throw expected(`an axis of the ${rank} of node "${node.name}"`, name, axis, { node: node.name });
  }

  #elementwise(node: Node, trait: ElementwiseTrait, foldClamp = true): true | string {
    const inputs = new Map<number, InputRole>();
    let someCodes = false;
    const indices = trait.inputs ?? [...node.inputs.keys()];
    for (const index of indices) {
      const value = node.input(index);
      if (!value) continue;
      if (!isFloat(value)) return typeReason(`input ${index}`, value);
      someCodes ||= this.#codes.has(value);
      inputs.set(index, { kind: value.constant ? 'constant' : 'activation' });
    }
    if (!someCodes && !this.#options.isForced?.(node)) return NO_CODES;
    const values = [...inputs.keys()].map((index) => node.requiredInput(index));
    if (trait.masks) {
      if (values.some(({ constant }) => constant && isMask(constant.data as Float32Array))) return MASK;
      const computed = values.some((value) => !value.constant && !this.#codes.has(value));
      const { consumers } = node.output;
      if (computed && consumers.length > 0 && consumers.every(({ op }) => op === 'Softmax')) return MASK;
    }
    const { shareScales = 'free' } = this.#options;
    const sharesOutput = trait.selects && !this.#floatOutputs.has(node.op) && !this.#isOverridden(node.output);
    const absorbed = sharesOutput ? this.#absorbable(values) : new Set<Value>();
    // One tensor and scalars are a function of one code, whatever the scales are.
    const isBinary = values.filter(({ constant }) => constant?.size !== 1).length > 1;
    if (trait.selects === 'required' && !this.#coversAll && isBinary) {
      if (values.some((value) => !value.constant && !absorbed.has(value))) return 'its inputs have scales of their own';
    }
    this.#accept(node, inputs, foldClamp);
    const { outputs } = this.#nodes.get(node)!;
    // Nothing to share when the output stays float.
    if (outputs.length === 0) return true;
    const [output] = outputs;
    if (trait.averages && shareScales === 'always') this.#join(output, node.requiredInput(0), 1);
    for (const value of absorbed) {
      if (shareScales === 'always') this.#unite(output, value);
      this.#join(value, output, 1);
    }
    if (sharesOutput && shareScales !== 'never') {
      for (const [index, { kind }] of inputs) {
        if (kind !== 'constant' || this.#isOverridden(node.requiredInput(index))) continue;
        inputs.set(index, { kind, like: output });
      }
    }
    return true;
  }

  /** The inputs that may take the scale of what the node makes of them. */
  #absorbable(values: readonly Value[]): Set<Value> {
    const { shareScales = 'free' } = this.#options;
    const absorbed = new Set<Value>();
    if (shareScales === 'never') return absorbed;
    const uses = new Map<Value, number>();
    for (const value of new Set(values)) {
      if (value.constant) continue;
      const head = this.#headOf(value);
      uses.set(head, (uses.get(head) ?? 0) + 1);
    }
    for (const value of values) {
      if (value.constant) continue;
      const head = this.#headOf(value);
      if (this.#knownScales.has(head) || this.#isOverridden(value) || this.#isOverridden(head)) continue;
      if (shareScales === 'always' || this.#readersOf(head) === uses.get(head)) absorbed.add(value);
    }
    return absorbed;
  }

  get #coversAll(): boolean {
    return this.#options.operators === 'all';
  }

  /** Whether the user prescribes codes for the tensor. */
  #isOverridden({ name }: Value): boolean {
    return this.#options.overrides?.[name] !== undefined;
  }

  /** Marks a node as quantized, and with it the clamp behind it when nothing else reads what lies between. */
  #accept(node: Node, inputs: Map<number, InputRole>, foldClamp = true): void {
    if (this.#floatOutputs.has(node.op)) {
      this.#nodes.set(node, { inputs, outputs: [] });
      return;
    }
    let { output } = node;
    const clamp = foldClamp ? this.#foldableClamp(output) : undefined;
    if (clamp && this.#options.clampsStayFloat) {
      this.#join(output, clamp.output, 0);
    } else if (clamp) {
      output = clamp.output;
      this.#nodes.set(clamp, { inputs: new Map(), outputs: [] });
    }
    this.#nodes.set(node, { inputs, outputs: [output] });
    this.#codes.add(output);
  }

  #foldableClamp(value: Value): Node | undefined {
    if (value.consumerCount !== 1 || this.#outputs.has(value)) return undefined;
    const [clamp] = value.consumers;
    if (this.#options.traitOf(clamp)?.kind !== 'clamp' || clamp.input(0) !== value || !boundsAreConstant(clamp))
      return undefined;
    if (this.#options.refusal(clamp) || this.#captured.has(clamp.output)) return undefined;
    return clamp;
  }

  /** Quantizes a node that only moves elements: its outputs take the scale of its input. */
  #shareThrough(node: Node): void {
    const input = node.requiredInput(0);
    const hasCodes = (value: Value | null): value is Value => value !== null && isFloat(value);
    const outputs = this.#floatOutputs.has(node.op) ? [] : node.outputs.filter(hasCodes);
    outputs.forEach((output, i) => {
      this.#join(output, input, i === 0 ? 1 : 0);
      this.#codes.add(output);
    });
    this.#nodes.set(node, { inputs: new Map([[0, { kind: input.constant ? 'constant' : 'activation' }]]), outputs });
    this.#floatNodes.delete(node);
  }

  #feedsOnlyQuantized(node: Node): boolean {
    return node.outputs.every((value) => {
      if (!value) return true;
      if (this.#outputs.has(value) || value.consumerCount === 0) return false;
      return value.consumers.every((consumer) => {
        const roles = this.#nodes.get(consumer)?.inputs;
        return (
          roles !== undefined &&
          consumer.inputs.every((input, i) => input !== value || roles.get(i)?.kind === 'activation')
        );
      });
    });
  }

  /** Lets the group of `value` take the scale of the group of `other`, between which `reads` readers are no outsiders any more. */
  #join(value: Value, other: Value, reads: number): void {
    const [from, to] = [this.#headOf(value), this.#headOf(other)];
    const readers = this.#readersOf(to) - reads;
    this.#readers.set(to, from === to ? readers : readers + this.#readersOf(from));
    if (from !== to) this.#sharesWith.set(from, to);
  }

  /** Lets the scale of the group of `value` cover the range of another one, too. */
  #unite(value: Value, other: Value): void {
    const [head, added] = [this.#headOf(value), this.#headOf(other)];
    if (head === added) return;
    const union = this.#unions.get(head) ?? [head];
    union.push(...(this.#unions.get(added) ?? [added]));
    this.#unions.set(head, union);
  }

  #readersOf(head: Value): number {
    const outside = this.#outputs.has(head) || this.#captured.has(head) ? 1 : 0;
    return this.#readers.get(head) ?? head.consumerCount + outside;
  }

  #headOf(value: Value): Value {
    let head = value;
    for (let next = this.#sharesWith.get(head); next; next = this.#sharesWith.get(head)) head = next;
    // Path compression keeps long chains linear.
    for (let at = value; at !== head; ) {
      const next = this.#sharesWith.get(at)!;
      this.#sharesWith.set(at, head);
      at = next;
    }
    return head;
  }

  #setKnown(node: Node, [min, max]: [number, number]): void {
    if (this.#floatOutputs.has(node.op)) return;
    this.#knownRanges.set(node.output, { min, max });
    // Onnxruntime's kernel for softmax on codes is right only when 1 / scale is an integer.
    const isExact = node.op === 'Softmax' || (node.op === 'Sigmoid' && this.#options.nnapiSigmoid);
    if (isExact) this.#knownScales.set(node.output, 1 / 256);
  }
}

const NO_CODES = 'none of its inputs comes from a quantized node';
const NO_FORM = 'no CPU runtime has a form of it on codes';
const MASK = 'it masks values out, with numbers that would take up the whole range of codes';
const ONE_INPUT: ElementwiseTrait = { kind: 'elementwise', inputs: [0] };

/** Larger magnitudes stand for minus infinity in front of a Softmax. */
const LARGEST_OPERAND = 1e4;

function isMask(data: Float32Array): boolean {
  return data.some((value) => !(Math.abs(value) < LARGEST_OPERAND));
}

function axisOf({ axis }: ComputeTrait, node: Node, rank: number): number | undefined {
  return typeof axis === 'function' ? axis(node, rank) : axis;
}

function isFloat(value: Value): boolean {
  return (value.constant?.type ?? value.type?.dtype) === 'float32';
}

/** Of any precision: whoever looks for a node that stayed float wants to find it. */
function isReal(value: Value): boolean {
  const dtype = value.constant?.type ?? value.type?.dtype;
  return dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16' || dtype === 'float64';
}

function typeReason(what: string, value: Value): string {
  const dtype = value.constant?.type ?? value.type?.dtype;
  return dtype ? `its ${what} is ${dtype}, not float32` : `the type of its ${what} is not known`;
}

function boundsAreConstant(clamp: Node): boolean {
  return clamp.inputs.every((value, index) => index === 0 || !value || value.constant !== undefined);
}
