/**
 * Decides, before any data is seen, which nodes are quantized and how each of their tensors is represented. Works from the
 * quantization traits of lib/ops alone. One pass in execution order, one back; linear.
 *
 * A compute node (Conv, Gemm, MatMul) is quantized whenever its tensors allow it. Everything else only follows: it pays
 * when its input exists as codes already, and costs accuracy for nothing when it does not.
 */
import { expected } from '../errors';
import type { Graph, Node, Value } from '../graph/graph';
import type { QuantTrait } from '../ops/define-op';
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
  /** Constant with activation type: an operand of Add, Mul, Concat... */
  | { kind: 'constant' }
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
  /** Heads whose range calibration has to find. */
  observed: Value[];
  /** Heads whose range is known without data. */
  knownRanges: Map<Value, Range>;
  /** Of these, heads whose 8-bit codes have a prescribed scale, with the low end of the type as zero point. */
  knownScales: Map<Value, number>;
  floatNodes: FloatNode[];
}

export interface PlanOptions
  extends Partial<
    Pick<
      Representation,
      'perChannel' | 'channelAxis' | 'quantizeBias' | 'constantWeightsOnly' | 'floatOutputsOf' | 'nnapiSigmoid'
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
  /** Values that exist as codes because a quantized node makes them. */
  readonly #codes = new Set<Value>();
  /** Value -> the value whose scale it shares, one step towards the head. */
  readonly #sharesWith = new Map<Value, Value>();
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
      if (node.outputs.some((value) => value?.type === undefined || isFloat(value)))
        this.#floatNodes.set(node, verdict);
      if (verdict === NO_CODES && this.#options.traitOf(node)?.kind === 'agnostic') waiting.push(node);
    }
    // Moving codes is cheaper than moving floats: what only feeds quantized nodes is quantized before the move.
    if (this.#options.pullUp === false) waiting.length = 0;
    for (const node of waiting.reverse()) if (this.#feedsOnlyQuantized(node)) this.#shareThrough(node);

    const plan: QuantPlan = {
      nodes: new Map(order.flatMap((node) => (this.#nodes.has(node) ? [[node, this.#nodes.get(node)!] as const] : []))),
      activations: new Map(),
      observed: [],
      knownRanges: this.#knownRanges,
      knownScales: this.#knownScales,
      floatNodes: order.flatMap((node) => {
        const reason = this.#floatNodes.get(node);
        return reason === undefined ? [] : [{ node, reason }];
      }),
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
    plan.observed = [...heads].filter((head) => !this.#knownRanges.has(head) && !head.constant);
    return plan;
  }

  /** Quantizes the node, or says why not. */
  #consider(node: Node): true | string {
    const trait = node.domain === '' || node.domain === 'com.microsoft' ? this.#options.traitOf(node) : undefined;
    if (!trait) return `q8 does not quantize ${node.op}`;
    const refused = this.#options.refusal(node);
    if (refused) return refused;
    if ('when' in trait && trait.when) {
      const verdict = trait.when(node);
      if (verdict !== true) return verdict;
    }
    if (node.outputs.some((value) => value && this.#captured.has(value))) return 'a subgraph reads its output';
    if (!isFloat(node.output)) return typeReason('output', node.output);
    switch (trait.kind) {
      case 'compute':
        return this.#compute(node, trait);
      case 'elementwise':
        return this.#elementwise(node, trait.inputs);
      case 'fixed': {
        const verdict = this.#elementwise(node, [0], false);
        if (verdict === true) this.#setKnown(node, trait.range(node));
        return verdict;
      }
      case 'clamp':
        if (this.#options.clampsStayFloat) return 'it clamps floats between symmetric codes';
        return boundsAreConstant(node) ? this.#elementwise(node, [0], false) : 'its bounds are not constant';
      case 'agnostic': {
        const input = node.requiredInput(0);
        if (!isFloat(input)) return typeReason('input', input);
        if (input.constant ? !trait.readsTable : !this.#codes.has(input)) return NO_CODES;
        this.#shareThrough(node);
        return true;
      }
    }
  }

  #compute(node: Node, trait: Extract<QuantTrait, { kind: 'compute' }>): true | string {
    const inputs = new Map<number, InputRole>();
    for (let index = 0; index < node.inputs.length; index++) {
      const value = node.input(index);
      if (!value) continue;
      if (!isFloat(value)) return typeReason(`input ${index}`, value);
      if (index === trait.bias) {
        if (value.constant) inputs.set(index, { kind: 'bias' });
        else if (this.#options.quantizeBias !== false) return 'its bias is not constant';
      } else if (index === trait.weight && value.constant) {
        const rank = value.constant.dims.length;
        const outputAxis = typeof trait.axis === 'function' ? trait.axis(node, rank) : trait.axis;
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
    if (weight.constant && bias) {
      const { dims } = weight.constant;
      const axis = typeof trait.axis === 'function' ? trait.axis(node, dims.length) : trait.axis;
      if (axis === undefined || (bias.size !== 1 && bias.size !== dims[axis])) {
        return 'its bias does not have one element per output channel';
      }
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

  #elementwise(node: Node, only?: readonly number[], foldClamp = true): true | string {
    const inputs = new Map<number, InputRole>();
    let someCodes = false;
    const indices = only ?? node.inputs.map((_, index) => index);
    for (const index of indices) {
      const value = node.input(index);
      if (!value) continue;
      if (!isFloat(value)) return typeReason(`input ${index}`, value);
      someCodes ||= this.#codes.has(value);
      inputs.set(index, { kind: value.constant ? 'constant' : 'activation' });
    }
    if (!someCodes && !this.#options.isForced?.(node)) return NO_CODES;
    this.#accept(node, inputs, foldClamp);
    return true;
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
      this.#sharesWith.set(output, clamp.output);
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
    for (const output of outputs) {
      this.#sharesWith.set(output, input);
      this.#codes.add(output);
    }
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

function isFloat(value: Value): boolean {
  return (value.constant?.type ?? value.type?.dtype) === 'float32';
}

function typeReason(what: string, value: Value): string {
  const dtype = value.constant?.type ?? value.type?.dtype;
  return dtype ? `its ${what} is ${dtype}, not float32` : `the type of its ${what} is not known`;
}

function boundsAreConstant(clamp: Node): boolean {
  return clamp.inputs.every((value, index) => index === 0 || !value || value.constant !== undefined);
}
