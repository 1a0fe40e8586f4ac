/**
 * The intermediate representation: a Graph of Nodes that produce and consume Values. Mutable; passes work on a clone.
 * All edits go through Graph and Node methods, which keep producers and consumers true in O(1). No meaning of operators
 * here (lib/ops) and no protobuf (lib/onnx).
 */
import { Q8Error } from '../errors';
import type { DType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';
import { type Attribute, type AttributeInit, Attributes } from './attributes';

/** A dimension: a size, or the name of a symbolic size. Unknown sizes get names that start with "?". */
export type Dim = number | string;

let unknownDims = 0;

/** A dimension that nothing is known of. Each call gives another one: two unknown sizes are never taken for equal. */
export function unknownDim(): Dim {
  return `?${unknownDims++}`;
}

/** Whether nothing is known of a dimension, not even a name. */
export function isUnknownDim(dim: Dim): boolean {
  return typeof dim === 'string' && dim.startsWith('?');
}

/** What is known of a value before a run. `shape` is undefined when even the rank is unknown. */
export interface ValueType {
  dtype: DType;
  shape?: readonly Dim[];
}

/** One tensor of the graph: a graph input, a constant (initializer) or the output of a node. */
export class Value {
  name: string;
  /** Undefined until shape inference has run. */
  type?: ValueType;
  /** Set for initializers: the data. Treat as immutable; replace the whole tensor. */
  constant?: Tensor;
  /** @internal */ _producer: Node | null = null;
  /** @internal use count per consuming node (a node may use a value twice). */
  readonly _uses = new Map<Node, number>();

  constructor(name: string, type?: ValueType, constant?: Tensor) {
    this.name = name;
    if (type) this.type = type;
    if (constant) this.constant = constant;
  }

  /** The node that makes this value; null for graph inputs and constants. */
  get producer(): Node | null {
    return this._producer;
  }

  /** The nodes that read this value, each once; nodes of bodies among them, but not bodies that give it out. */
  get consumers(): Node[] {
    return [...this._uses.keys()];
  }

  get consumerCount(): number {
    return this._uses.size;
  }
}

/** One operator. `inputs` may hold null for optional inputs that are left out; trailing nulls are trimmed. */
export class Node {
  name: string;
  readonly op: string;
  readonly domain: string;
  readonly attributes: Attributes;
  /** @internal */ readonly _inputs: (Value | null)[];
  /** @internal */ readonly _outputs: (Value | null)[];
  /** @internal The graph that holds the node. */ _graph: Graph | null = null;

  /** @internal: use Graph.addNode. */
  constructor(init: NodeInit) {
    this.name = init.name;
    this.op = init.op;
    this.domain = init.domain ?? '';
    this.attributes =
      init.attributes instanceof Attributes ? init.attributes : Attributes.of(init.name || init.op, init.attributes);
    this._inputs = [...init.inputs];
    this._outputs = [...init.outputs];
    while (this._inputs.length > 0 && this._inputs[this._inputs.length - 1] === null) this._inputs.pop();
  }

  get inputs(): readonly (Value | null)[] {
    return this._inputs;
  }

  /** Outputs that the model leaves out are null. */
  get outputs(): readonly (Value | null)[] {
    return this._outputs;
  }

  /** Input `index`, null when absent. */
  input(index: number): Value | null {
    return this._inputs[index] ?? null;
  }

  /** Input `index`. @throws ERR_Q8_BAD_MODEL when the model leaves it out. */
  requiredInput(index: number): Value {
    const value = this.input(index);
    if (!value)
      throw new Q8Error('ERR_Q8_BAD_MODEL', `Node "${this.name}" (${this.op}) lacks its input ${index}.`, {
        node: this.name,
      });
    return value;
  }

  /** The first output. @throws ERR_Q8_BAD_MODEL when it is left out. */
  get output(): Value {
    const value = this._outputs[0];
    if (!value)
      throw new Q8Error('ERR_Q8_BAD_MODEL', `Node "${this.name}" (${this.op}) lacks its output 0.`, {
        node: this.name,
      });
    return value;
  }

  /** Points input `index` at another value (null removes an optional input). */
  setInput(index: number, value: Value | null): void {
    while (this._inputs.length <= index) this._inputs.push(null);
    const old = this._inputs[index];
    if (old) dropUse(old, this);
    this._inputs[index] = value;
    if (value) addUse(value, this);
    while (this._inputs.length > 0 && this._inputs[this._inputs.length - 1] === null) this._inputs.pop();
    if (this._graph) this._graph._order = null;
  }
}

export interface NodeInit {
  name: string;
  op: string;
  domain?: string;
  inputs: readonly (Value | null)[];
  outputs: readonly (Value | null)[];
  attributes?: Attributes | AttributeInit;
}

function addUse(value: Value, node: Node): void {
  value._uses.set(node, (value._uses.get(node) ?? 0) + 1);
}

function dropUse(value: Value, node: Node): void {
  const count = value._uses.get(node) ?? 0;
  if (count > 1) value._uses.set(node, count - 1);
  else value._uses.delete(node);
}

/** What the file says about itself, kept for writing it back. */
export interface ModelInfo {
  irVersion: number;
  producerName: string;
  producerVersion: string;
  modelDomain: string;
  modelVersion: number;
  docString: string;
  metadata: Map<string, string>;
}

export class Graph {
  name: string;
  /** Imported operator set version by domain ('' is ai.onnx). Shared with subgraphs. */
  readonly opsets: Map<string, number>;
  readonly info: ModelInfo;
  /** Graph inputs, without initializers. */
  readonly inputs: Value[] = [];
  readonly outputs: Value[] = [];
  readonly #nodes = new Set<Node>();
  readonly #owners = new Set<Node>();
  /**
   * @internal The execution order as last computed, until an edit; never kept where there are bodies, which have edits of
   * their own.
   */
  _order: readonly Node[] | null = null;
  readonly #names = new Set<string>();
  /** Next suffix to try for a base name, so that many nodes with one base cost linear time. */
  readonly #suffixes = new Map<string, number>();
  /** For a subgraph (If, Loop, Scan bodies): the graph around it. Its values may be used here by reference. */
  readonly parent: Graph | null;

  constructor(
    name = '',
    options: { opsets?: Map<string, number>; info?: Partial<ModelInfo>; parent?: Graph | null } = {},
  ) {
    this.name = name;
    this.parent = options.parent ?? null;
    this.opsets = options.opsets ?? this.parent?.opsets ?? new Map();
    this.info = {
      irVersion: 8,
      producerName: 'q8',
      producerVersion: '',
      modelDomain: '',
      modelVersion: 0,
      docString: '',
      metadata: new Map(),
      ...options.info,
    };
  }

  /** The nodes, in insertion order; see {@link topologicalOrder} for execution order. Safe against edits while iterating a copy. */
  get nodes(): ReadonlySet<Node> {
    return this.#nodes;
  }

  /** The nodes that have bodies, which few models have: nearly every pass asks. */
  get bodyOwners(): ReadonlySet<Node> {
    return this.#owners;
  }

  opset(domain = ''): number {
    return this.opsets.get(domain) ?? 0;
  }

  /**
   * A name not used so far, here and around, by any node or value made through {@link uniqueName}, {@link addNode} or
   * {@link reserve}.
   */
  uniqueName(base: string): string {
    let name = base;
    let suffix = this.#suffixes.get(base) ?? 1;
    while (this.hasName(name)) name = `${base}_${suffix++}`;
    this.#suffixes.set(base, suffix);
    this.reserve(name);
    return name;
  }

  hasName(name: string): boolean {
    return this.#names.has(name) || (this.parent?.hasName(name) ?? false);
  }

  /** Marks a name as used, for the graphs around a body too: what a body makes may come to be shared with others. */
  reserve(name: string): void {
    this.#names.add(name);
    this.parent?.reserve(name);
  }

  /** A new value with a unique name derived from `base`. */
  newValue(base: string, type?: ValueType): Value {
    return new Value(this.uniqueName(base), type);
  }

  /** A new constant with a unique name derived from `base`. */
  newConstant(base: string, tensor: Tensor): Value {
    return new Value(this.uniqueName(base), { dtype: tensor.type, shape: tensor.dims }, tensor);
  }

  /** Adds a node; its outputs must not have a producer yet. An empty name gets a stable one from its operator. */
  addNode(init: NodeInit): Node {
    const name = init.name === '' ? this.uniqueName(init.op) : init.name;
    this.#names.add(name);
    const node = new Node({ ...init, name });
    for (const value of node._outputs) {
      if (!value) continue;
      if (value._producer) {
        throw new Q8Error(
          'ERR_Q8_BAD_MODEL',
          `Value "${value.name}" is made by both "${value._producer.name}" and "${name}".`,
          { node: name },
        );
      }
      value._producer = node;
      this.#names.add(value.name);
    }
    for (const value of node._inputs) if (value) addUse(value, node);
    this.#nodes.add(node);
    if (subgraphsOf(node).length > 0) this.#owners.add(node);
    node._graph = this;
    this._order = null;
    return node;
  }

  /** Removes a node. Its outputs stay valid values without a producer; give them a new one or drop them. */
  removeNode(node: Node): void {
    if (!this.#nodes.delete(node)) return;
    this.#owners.delete(node);
    node._graph = null;
    this._order = null;
    for (const value of node._inputs) if (value) dropUse(value, node);
    for (const value of node._outputs) if (value && value._producer === node) value._producer = null;
  }

  /** Makes every consumer of `from`, and the graph outputs, read `to`. Graph outputs keep `from`'s name: see below. */
  replaceAllUses(from: Value, to: Value): void {
    for (const node of from.consumers) {
      for (let i = 0; i < node._inputs.length; i++) if (node._inputs[i] === from) node.setInput(i, to);
    }
    for (let i = 0; i < this.outputs.length; i++) {
      if (this.outputs[i] !== from) continue;
      // The public name of an output must survive: the replacement takes it over, unless it is itself public or constant.
      if (this.inputs.includes(to) || to.constant || this.outputs.includes(to)) {
        const node = this.addNode({ name: '', op: 'Identity', inputs: [to], outputs: [new Value(from.name, to.type)] });
        this.outputs[i] = node.output;
        from.name = this.uniqueName(`${from.name}_replaced`);
      } else {
        [to.name, from.name] = [from.name, to.name];
        this.outputs[i] = to;
      }
    }
  }

  isOutput(value: Value): boolean {
    return this.outputs.includes(value);
  }

  /** Constants read by nodes or given out as outputs, each once, in order of first use (subgraphs included). */
  constants(): Value[] {
    const seen = new Set<Value>();
    for (const node of this.#nodes) {
      for (const value of node._inputs) if (value?.constant) seen.add(value);
      for (const body of subgraphsOf(node)) for (const value of body.constants()) seen.add(value);
    }
    for (const value of this.outputs) if (value.constant) seen.add(value);
    return [...seen];
  }

  /** Values of this graph that nodes inside subgraphs of `node` read by reference. */
  capturedBy(node: Node): Set<Value> {
    const captured = new Set<Value>();
    for (const body of subgraphsOf(node)) {
      const local = new Set<Value>(body.inputs);
      for (const inner of body.#nodes) for (const value of inner._outputs) if (value) local.add(value);
      for (const inner of body.#nodes) {
        for (const value of inner._inputs) if (value && !value.constant && !local.has(value)) captured.add(value);
        for (const value of body.capturedBy(inner)) if (!local.has(value)) captured.add(value);
      }
      for (const value of body.outputs) if (!value.constant && !local.has(value)) captured.add(value);
    }
    return captured;
  }

  /**
   * Nodes such that every producer comes before its consumers; insertion order wherever that allows it. Linear.
   * @throws ERR_Q8_BAD_MODEL on a cycle.
   */
  topologicalOrder(): readonly Node[] {
    if (this._order) return this._order;
    const order: Node[] = [];
    let bodies = false;
    /** False for nodes on the stack. */
    const done = new Map<Node, boolean>();
    // Depth first with a stack of our own: model graphs are deeper than the call stack.
    const stack: { node: Node; needs: readonly (Value | null)[]; next: number }[] = [];
    const open = (node: Node): void => {
      const ownsBodies = subgraphsOf(node).length > 0;
      bodies ||= ownsBodies;
      done.set(node, false);
      stack.push({ node, needs: ownsBodies ? [...node._inputs, ...this.capturedBy(node)] : node._inputs, next: 0 });
    };
    for (const root of this.#nodes) {
      if (!done.has(root)) open(root);
      while (stack.length > 0) {
        const top = stack[stack.length - 1];
        if (top.next === top.needs.length) {
          done.set(top.node, true);
          order.push(top.node);
          stack.pop();
          continue;
        }
        const producer = top.needs[top.next++]?._producer;
        // Values may come from the graphs around, or from nodes that were removed.
        if (!producer || producer._graph !== this) continue;
        const isDone = done.get(producer);
        if (isDone === undefined) open(producer);
        else if (!isDone) {
          throw new Q8Error(
            'ERR_Q8_BAD_MODEL',
            `The graph has a cycle through node "${producer.name}" (${producer.op}).`,
            { node: producer.name },
          );
        }
      }
    }
    if (!bodies) this._order = order;
    return order;
  }

  /** A deep copy: new nodes and values, shared constant tensors. `outer` maps values of enclosing graphs (subgraph clones). */
  clone(outer?: Map<Value, Value>, parent: Graph | null = this.parent): Graph {
    const copy = new Graph(this.name, {
      opsets: parent ? parent.opsets : new Map(this.opsets),
      info: { ...this.info, metadata: new Map(this.info.metadata) },
      parent,
    });
    for (const name of this.#names) copy.#names.add(name);
    const map = new Map<Value, Value>(outer);
    const mapped = (value: Value): Value => {
      let twin = map.get(value);
      if (!twin) {
        twin = new Value(value.name, value.type, value.constant);
        map.set(value, twin);
      }
      return twin;
    };
    for (const value of this.inputs) copy.inputs.push(mapped(value));
    for (const node of this.topologicalOrder()) {
      const inputs = node._inputs.map((v) => (v ? mapped(v) : null));
      const outputs = node._outputs.map((v) => (v ? mapped(v) : null));
      const attributes = new Attributes(
        node.name,
        [...node.attributes.entries()].map(([key, attribute]): [string, Attribute] => {
          if (attribute.kind === 'graph') return [key, { kind: 'graph', value: attribute.value.clone(map, copy) }];
          if (attribute.kind === 'graphs')
            return [key, { kind: 'graphs', value: attribute.value.map((g) => g.clone(map, copy)) }];
          return [key, attribute];
        }),
      );
      copy.addNode({ name: node.name, op: node.op, domain: node.domain, inputs, outputs, attributes });
    }
    for (const value of this.outputs) copy.outputs.push(mapped(value));
    return copy;
  }
}

/** Bodies of control-flow nodes. */
export function subgraphsOf(node: Node): readonly Graph[] {
  return node.attributes.bodies;
}

/** Whether all dimensions are numbers. */
export function isConcrete(shape: readonly Dim[] | undefined): shape is readonly number[] {
  return shape?.every((dim) => typeof dim === 'number') ?? false;
}
