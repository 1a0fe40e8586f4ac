/**
 * The shape inference driver: one pass over the nodes in execution order that asks every operator for the types of its
 * outputs. Symbolic sizes travel by name. Small constants are computed on the way, since shapes depend on them (Reshape
 * after Shape, Gather, Concat...). What each operator answers is in lib/ops; this file knows none of them, except that
 * Shape turns a type into data.
 */
import { Q8Error } from '../errors';
import type { InferContext, OpDefinition, RunContext } from '../ops/define-op';
import { Tensor } from '../tensor/tensor';
import { dimVector } from './dim-vector';
import {
  type Dim,
  type Graph,
  isConcrete,
  isUnknownDim,
  type Node,
  subgraphsOf,
  unknownDim,
  type Value,
  type ValueType,
} from './graph';

/** Constants are computed when they have at most so many elements... */
const MAX_FOLDED_ELEMENTS = 1024;
/** ...and are made from at most so many: enough for an index table, not for the weights of a convolution. */
const MAX_OPERAND_ELEMENTS = 1 << 16;

/** Operators that give another answer each time, whatever their inputs are. */
export const RANDOM_OPS: ReadonlySet<string> = new Set([
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
  'Multinomial',
  'Bernoulli',
]);

/** The definition of a node's operator, or undefined when there is none. */
export type OpLookup = (node: Node) => OpDefinition | undefined;

export interface InferOptions {
  /** Types known beforehand, of graph inputs or of any other value: the concrete shapes of one run. */
  inputTypes?: ReadonlyMap<Value, ValueType>;
  /** Data of values that are not constants of the graph but are known all the same. */
  constants?: ReadonlyMap<Value, Tensor>;
  /** The nodes in execution order, when the caller has it already. */
  order?: readonly Node[];
  /**
   * Asks only nodes whose outputs have no complete type yet: for a graph whose types were inferred before a pass added
   * nodes to it. Constants are then computed from new nodes alone.
   */
  onlyNew?: boolean;
}

/** What inference has found out. The graph itself is not changed. */
export interface Inference {
  /** Type of a value: inferred, else declared, else undefined. Bodies of control flow included. */
  typeOf(value: Value): ValueType | undefined;
  /** The data of a value that is constant, or that could be computed from shapes and small constants. */
  constantOf(value: Value): Tensor | undefined;
  /** Nodes with an unknown operator or an input of unknown type; their outputs keep the declared types. */
  readonly unresolved: ReadonlySet<Node>;
}

/**
 * Infers the types of all values of `graph`. Linear in the number of nodes. A declared type is a hint: it fills in what
 * could not be inferred, and loses against what could.
 *
 * @throws what operators throw on wrong inputs (ERR_Q8_BAD_MODEL, ERR_Q8_SHAPE_MISMATCH...), with the node's name.
 */
export function inferTypes(graph: Graph, lookup: OpLookup, options: InferOptions = {}): Inference {
  const inputTypes = options.inputTypes ?? new Map<Value, ValueType>();
  // A fixed size that a run overrides makes every declared size doubtful.
  const useHints = [...inputTypes].every(([value, type]) => agrees(value.type?.shape, type.shape));
  const driver = new Driver(lookup, useHints);
  for (const [value, type] of inputTypes) driver.types.set(value, type);
  for (const [value, tensor] of options.constants ?? []) driver.assume(value, tensor);
  const order = options.order ?? graph.topologicalOrder();
  driver.infer(graph, options.onlyNew ? order.filter((node) => !hasTypes(node)) : order);
  return driver;
}

/** {@link inferTypes}, and sets `type` of every value to what it found. */
export function inferShapes(graph: Graph, lookup: OpLookup, options: InferOptions = {}): Inference {
  const inference = inferTypes(graph, lookup, options);
  writeTypes(graph, inference);
  return inference;
}

/** Whether nothing is left to find out: shapes are known, by name at least, and no output can be a piece of one. */
function hasTypes(node: Node): boolean {
  if (subgraphsOf(node).length > 0) return false;
  return node.outputs.every((value) => {
    if (!value) return true;
    const { type } = value;
    if (!type?.shape || type.dtype === 'int64' || type.dtype === 'int32') return false;
    return !type.shape.some(isUnknownDim);
  });
}

function agrees(declared: readonly Dim[] | undefined, given: readonly Dim[] | undefined): boolean {
  if (!declared || !given) return true;
  return declared.length === given.length && declared.every((dim, i) => typeof dim === 'string' || dim === given[i]);
}

function writeTypes(graph: Graph, inference: Inference): void {
  const write = (value: Value | null): void => {
    const type = value && inference.typeOf(value);
    if (value && type) value.type = type;
  };
  graph.inputs.forEach(write);
  for (const node of graph.nodes) {
    node.outputs.forEach(write);
    for (const body of subgraphsOf(node)) writeTypes(body, inference);
  }
}

class Driver implements Inference {
  readonly types = new Map<Value, ValueType>();
  readonly unresolved = new Set<Node>();
  readonly #lookup: OpLookup;
  readonly #useHints: boolean;
  readonly #constants = new Map<Value, Tensor>();
  /** Integer vectors and scalars of which some elements are only known by name: pieces of a shape. */
  readonly #dims = new Map<Value, readonly Dim[]>();

  constructor(lookup: OpLookup, useHints: boolean) {
    this.#lookup = lookup;
    this.#useHints = useHints;
  }

  typeOf(value: Value): ValueType | undefined {
    if (value.constant) return { dtype: value.constant.type, shape: value.constant.dims };
    return this.types.get(value) ?? value.type;
  }

  constantOf(value: Value): Tensor | undefined {
    return value.constant ?? this.#constants.get(value);
  }

  assume(value: Value, tensor: Tensor): void {
    this.types.set(value, { dtype: tensor.type, shape: tensor.dims });
    this.#constants.set(value, tensor);
  }

  infer(graph: Graph, order: readonly Node[]): void {
    for (const node of order) {
      try {
        this.#inferNode(graph, node);
      } catch (error) {
        throw withNode(error, node);
      }
    }
  }

  #inferNode(graph: Graph, node: Node): void {
    // A body may be inferred more than once, with other types each time.
    for (const value of node.outputs) {
      if (!value) continue;
      this.#constants.delete(value);
      this.#dims.delete(value);
    }
    const definition = this.#lookup(node);
    if (!definition || node.inputs.some((value) => value && !this.typeOf(value))) {
      this.unresolved.add(node);
      return;
    }
    this.unresolved.delete(node);
    const context = new Context(this, graph, node);
    const inferred = definition.inferShape(context);
    node.outputs.forEach((value, i) => {
      if (value && inferred[i]) this.types.set(value, this.#useHints ? refine(value.type, inferred[i]) : inferred[i]);
    });
    if (!this.#fold(definition, context)) this.#traceDims(node);
  }

  /** The elements of a piece of a shape. */
  dimsOf(value: Value): readonly Dim[] | undefined {
    return this.#dims.get(value);
  }

  /** Notes what is known of a piece of a shape, and makes it a constant when all of it is known. */
  #traceDims(node: Node): void {
    const output = node.outputs[0];
    const type = output && this.typeOf(output);
    if (!type || (type.dtype !== 'int64' && type.dtype !== 'int32') || !type.shape || type.shape.length > 1) return;
    const dims = dimVector(node, {
      typeOf: (value) => this.typeOf(value),
      constantOf: (value) => this.constantOf(value),
      dimsOf: (value) => this.#dims.get(value),
    });
    if (!dims) return;
    this.#dims.set(output, dims);
    if (!isConcrete(dims)) return;
    const shape = type.shape.length === 0 ? [] : [dims.length];
    const data = type.dtype === 'int64' ? BigInt64Array.from(dims, BigInt) : Int32Array.from(dims);
    this.#constants.set(output, new Tensor(type.dtype, data as never, shape));
    this.types.set(output, { dtype: type.dtype, shape });
  }

  /** Computes the outputs of a node whose inputs are all constant, if they are small. Returns whether it did. */
  #fold(definition: OpDefinition, context: Context): boolean {
    const { node } = context;
    let operandElements = 0;
    const operands: (Tensor | null)[] = [];
    for (const value of node.inputs) {
      const tensor = value ? this.constantOf(value) : null;
      if (tensor === undefined) return false;
      operandElements += tensor?.size ?? 0;
      operands.push(tensor);
    }
    const isRandom = RANDOM_OPS.has(node.op) || node.op === 'Dropout';
    if (operandElements > MAX_OPERAND_ELEMENTS || isRandom || subgraphsOf(node).length > 0) return false;
    for (const value of node.outputs) {
      const shape = value ? this.typeOf(value)?.shape : [];
      if (!isConcrete(shape) || shape.reduce((a, b) => a * b, 1) > MAX_FOLDED_ELEMENTS) return false;
    }
    let results: Tensor[];
    try {
      results = definition.run(operands, context);
    } catch (error) {
      // Nothing is lost: the node stays as it is and fails, if it must, when it runs.
      if (error instanceof Q8Error) return false;
      throw error;
    }
    node.outputs.forEach((value, i) => {
      if (!value || !results[i]) return;
      this.#constants.set(value, results[i]);
      this.types.set(value, { dtype: results[i].type, shape: results[i].dims });
    });
    return true;
  }
}

class Context implements InferContext, RunContext {
  readonly #driver: Driver;
  readonly #graph: Graph;

  constructor(
    driver: Driver,
    graph: Graph,
    readonly node: Node,
  ) {
    this.#driver = driver;
    this.#graph = graph;
  }

  get opset(): number {
    return this.#graph.opset(this.node.domain);
  }

  get outputCount(): number {
    return this.node.outputs.length;
  }

  input(index: number): ValueType {
    return this.#driver.typeOf(this.node.requiredInput(index))!;
  }

  optionalInput(index: number): ValueType | null {
    const value = this.node.input(index);
    return value && this.#driver.typeOf(value)!;
  }

  constant(index: number): Tensor | undefined {
    const value = this.node.input(index);
    return value ? this.#driver.constantOf(value) : undefined;
  }

  dims(index: number): readonly Dim[] | undefined {
    const value = this.node.input(index);
    return value ? this.#driver.dimsOf(value) : undefined;
  }

  inferSubgraph(graph: Graph, inputTypes: ValueType[]): ValueType[] {
    graph.inputs.forEach((value, i) => {
      if (inputTypes[i]) this.#driver.types.set(value, inputTypes[i]);
    });
    this.#driver.infer(graph, graph.topologicalOrder());
    return graph.outputs.map((value) => {
      const type = this.#driver.typeOf(value);
      if (!type) {
        throw new Q8Error(
          'ERR_Q8_UNSUPPORTED_OP',
          `The type of ${JSON.stringify(value.name)}, an output of a body, cannot be inferred.`,
        );
      }
      return type;
    });
  }

  unknownDim(): Dim {
    return unknownDim();
  }

  runSubgraph(): Tensor[] {
    throw new Q8Error('ERR_Q8_INTERNAL', 'Control flow is not folded.');
  }
}

/** The inferred type, with what it leaves open taken from the declared one. */
function refine(declared: ValueType | undefined, inferred: ValueType): ValueType {
  const hint = declared?.shape;
  if (!hint) return inferred;
  const { dtype, shape } = inferred;
  if (!shape) return { dtype, shape: hint };
  if (shape.length !== hint.length) return inferred;
  return { dtype, shape: shape.map((dim, i) => (isUnknownDim(dim) ? hint[i] : dim)) };
}

function withNode(error: unknown, node: Node): unknown {
  if (error instanceof Q8Error) {
    if (error.node !== undefined) return error;
    return new Q8Error(error.code, `${error.message} (node "${node.name}", ${node.op})`, {
      node: node.name,
      cause: error,
    });
  }
  const reason = error instanceof Error ? error.message : String(error);
  return new Q8Error('ERR_Q8_INTERNAL', `Shape inference of node "${node.name}" (${node.op}) failed: ${reason}.`, {
    node: node.name,
    cause: error,
  });
}
