/**
 * ModelProto to Graph: names become references, every rule that other code relies on is checked here, and what is wrong
 * with a model is reported in one error, all of it. Linear in the size of the model.
 */
import { Q8Error, type Q8ErrorCode } from '../errors';
import {
  type AttributeProto,
  AttributeType,
  domainOf,
  type GraphProto,
  type Int64,
  type ModelProto,
  type NodeProto,
  toBigInt,
  toSafeInteger,
  type TypeProto,
  type ValueInfoProto,
} from '../onnx/proto';
import { type DType, dtypeFromOnnx } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { type Attribute, Attributes } from './attributes';
import { type Dim, Graph, subgraphsOf, unknownDim, Value, type ValueType } from './graph';
import { inlineFunctions } from './inline-functions';
import { tensorFromProto } from './tensor-proto';

const UTF8 = new TextDecoder();
/** How many problems an error message spells out. */
const LISTED_PROBLEMS = 20;

/**
 * The graph of a model, as `readModel` gives it. Constants share memory with the model's bytes where they are aligned.
 * Symbolic dimensions keep their names; sizes that are 0, negative or missing in a type count as unknown. Integer
 * attributes beyond 2^53 ("to the end" in old Slice nodes) are clamped to it, except in Constant, which stays exact.
 * Calls of model-local functions are replaced by their bodies.
 *
 * @throws ERR_Q8_BAD_MODEL (or ERR_Q8_UNSUPPORTED_OP / ERR_Q8_UNSUPPORTED_DTYPE when nothing else is wrong) with the list
 * of all problems.
 */
export function graphFromProto(source: ModelProto): Graph {
  const model = inlineFunctions(source);
  const problems = new Problems();
  const opsets = readOpsets(model, problems);
  const proto = model.graph ?? {};
  const graph = new Graph(proto.name ?? '', {
    opsets,
    info: {
      irVersion: toSafeInteger(model.irVersion, 'the IR version of the model'),
      producerName: model.producerName ?? '',
      producerVersion: model.producerVersion ?? '',
      modelDomain: model.domain ?? '',
      modelVersion: problems.guard(() => toSafeInteger(model.modelVersion, 'the version of the model')) ?? 0,
      docString: model.docString ?? '',
      metadata: new Map((model.metadataProps ?? []).map(({ key, value }) => [key ?? '', value ?? ''])),
    },
  });
  new GraphReader(graph, null, problems).read(proto);
  problems.throwIfAny();
  checkAcyclic(graph);
  return graph;
}

function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
}

function readOpsets(model: ModelProto, problems: Problems): Map<string, number> {
  const opsets = new Map<string, number>();
  for (const { domain, version } of model.opsetImport ?? []) {
    const name = domainOf(domain);
    const number = problems.guard(() =>
      toSafeInteger(version, `the opset version of domain ${quote(name || 'ai.onnx')}`),
    );
    if (number === undefined) continue;
    if (number < 1)
      problems.add('ERR_Q8_BAD_MODEL', `Opset version ${number} of domain ${quote(name || 'ai.onnx')} is not valid.`);
    const known = opsets.get(name);
    if (known !== undefined && known !== number) {
      problems.add(
        'ERR_Q8_BAD_MODEL',
        `Domain ${quote(name || 'ai.onnx')} is imported with versions ${known} and ${number}.`,
      );
    }
    opsets.set(name, number);
  }
  if (opsets.size === 0) problems.add('ERR_Q8_BAD_MODEL', 'The model imports no operator set.');
  return opsets;
}

/** Cycles, in the graph and in every body. */
function checkAcyclic(graph: Graph): void {
  for (const node of graph.topologicalOrder()) {
    for (const body of subgraphsOf(node)) checkAcyclic(body);
  }
}

/** What is wrong with a model. */
class Problems {
  readonly #list: { code: Q8ErrorCode; message: string; error?: Q8Error }[] = [];

  add(code: Q8ErrorCode, message: string): void {
    this.#list.push({ code, message });
  }

  /** The result of `read`, or undefined and a problem noted when it throws a Q8Error. */
  guard<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Q8Error)) throw error;
      this.#list.push({ code: error.code, message: error.message, error });
      return undefined;
    }
  }

  throwIfAny(): void {
    const list = this.#list;
    if (list.length === 0) return;
    const code = list.find((problem) => problem.code === 'ERR_Q8_BAD_MODEL')?.code ?? list[0].code;
    if (list.length === 1) throw list[0].error ?? new Q8Error(code, list[0].message);
    const counts = new Map<string, number>();
    for (const { message } of list) counts.set(message, (counts.get(message) ?? 0) + 1);
    const lines = [...counts].map(([message, count]) => (count > 1 ? `${message} (${count} times)` : message));
    const shown = lines.slice(0, LISTED_PROBLEMS).map((line) => `\n- ${line}`);
    const rest = lines.length > shown.length ? `\n- and ${lines.length - shown.length} more` : '';
    throw new Q8Error(code, `The model has ${list.length} problems:${shown.join('')}${rest}`);
  }
}

/** Reads one graph; one reader per body, linked to the reader of the graph around it. */
class GraphReader {
  readonly #graph: Graph;
  readonly #outer: GraphReader | null;
  readonly #problems: Problems;
  readonly #values = new Map<string, Value>();
  readonly #nodeNames = new Set<string>();

  constructor(graph: Graph, outer: GraphReader | null, problems: Problems) {
    this.#graph = graph;
    this.#outer = outer;
    this.#problems = problems;
  }

  read(proto: GraphProto): void {
    const nodes = proto.node ?? [];
    this.#reserveNames(nodes);
    this.#readInitializers(proto);
    this.#readInputs(proto);
    const outputs = nodes.map((node) => (node.output ?? []).map((name) => this.#defineOutput(name, node)));
    for (const info of proto.valueInfo ?? []) this.#applyHint(info);
    for (const [i, node] of nodes.entries()) this.#readNode(node, outputs[i]);
    this.#readOutputs(proto);
  }

  /** Explicit names first, so that names made up for unnamed nodes never take one of them. */
  #reserveNames(nodes: NodeProto[]): void {
    for (const { name, output } of nodes) {
      if (name) this.#graph.reserve(name);
      for (const value of output ?? []) if (value) this.#graph.reserve(value);
    }
  }

  #readInitializers(proto: GraphProto): void {
    for (const tensor of proto.initializer ?? []) {
      const name = tensor.name ?? '';
      if (name === '') {
        this.#problems.add('ERR_Q8_BAD_MODEL', 'An initializer has no name.');
        continue;
      }
      const value = this.#define(name, 'initializer');
      if (!value) continue;
      const data = this.#problems.guard(() => tensorFromProto(tensor, `initializer ${quote(name)}`));
      if (!data) continue;
      value.constant = data;
      value.type = { dtype: data.type, shape: data.dims };
    }
    for (const sparse of proto.sparseInitializer ?? []) {
      const name = sparse.values?.name ?? '';
      this.#problems.add('ERR_Q8_UNSUPPORTED_DTYPE', `Initializer ${quote(name)} is sparse, which is not supported.`);
      if (name !== '') this.#define(name, 'initializer');
    }
  }

  #readInputs(proto: GraphProto): void {
    const initializers = new Set((proto.initializer ?? []).map((tensor) => tensor.name ?? ''));
    const seen = new Set<string>();
    for (const info of proto.input ?? []) {
      const name = info.name ?? '';
      // Files of IR version 3 list initializers among the inputs.
      if (initializers.has(name) && !seen.has(name)) {
        seen.add(name);
        continue;
      }
      const value = this.#define(name, 'graph input');
      if (!value) continue;
      const type = this.#typeOf(info, `graph input ${quote(name)}`);
      if (type) value.type = type;
      else if (!this.#outer && !info.type) {
        this.#problems.add('ERR_Q8_BAD_MODEL', `Graph input ${quote(name)} has no type.`);
      }
      this.#graph.inputs.push(value);
    }
  }

  #readOutputs(proto: GraphProto): void {
    for (const info of proto.output ?? []) {
      const name = info.name ?? '';
      const value = this.#lookup(name);
      if (!value) {
        this.#problems.add('ERR_Q8_BAD_MODEL', `Graph output ${quote(name)} is made by no node.`);
        continue;
      }
      const type = this.#typeOf(info, `graph output ${quote(name)}`);
      if (type && !value.constant) value.type ??= type;
      this.#graph.outputs.push(value);
    }
    if (!this.#outer && !proto.output?.length) {
      this.#problems.add('ERR_Q8_BAD_MODEL', 'The graph has no outputs.');
    }
  }

  #readNode(proto: NodeProto, outputs: (Value | null)[]): void {
    const op = proto.opType ?? '';
    const domain = domainOf(proto.domain);
    const name = this.#nameOf(proto, op);
    if (op === '') this.#problems.add('ERR_Q8_BAD_MODEL', `Node ${quote(name)} has no operator.`);
    if (!this.#graph.opsets.has(domain) && this.#graph.opsets.size > 0) {
      this.#problems.add(
        'ERR_Q8_BAD_MODEL',
        `The model uses domain ${quote(domain || 'ai.onnx')} but imports no operator set of it.`,
      );
    }
    const inputs = (proto.input ?? []).map((input) => {
      if (input === '') return null;
      const value = this.#lookup(input);
      if (!value) {
        this.#problems.add(
          'ERR_Q8_BAD_MODEL',
          `Input ${quote(input)} of node ${quote(name)} (${op}) is defined nowhere.`,
        );
      }
      return value ?? null;
    });
    const attributes = new Attributes(name, this.#readAttributes(proto, name, op === 'Constant' && domain === ''));
    this.#graph.addNode({ name, op, domain, inputs, outputs, attributes });
  }

  /** The node's own name where it is the first to bear it, else a new one that is the same on every read. */
  #nameOf(proto: NodeProto, op: string): string {
    const own = proto.name ?? '';
    const name = own === '' || this.#nodeNames.has(own) ? this.#graph.uniqueName(own || op || 'node') : own;
    this.#nodeNames.add(name);
    return name;
  }

  #defineOutput(name: string, node: NodeProto): Value | null {
    if (name === '') return null;
    const owner = node.name ? ` ${quote(node.name)}` : '';
    return this.#define(name, `output of ${node.opType || 'node'}${owner}`) ?? null;
  }

  #define(name: string, kind: string): Value | undefined {
    if (this.#values.has(name) || name === '') {
      const message =
        name === '' ? `A ${kind} has no name.` : `Value ${quote(name)} is defined twice, again as ${kind}.`;
      this.#problems.add('ERR_Q8_BAD_MODEL', message);
      return undefined;
    }
    const value = new Value(name);
    this.#values.set(name, value);
    this.#graph.reserve(name);
    return value;
  }

  /** The value of this name here or in the graphs around. */
  #lookup(name: string): Value | undefined {
    const value = this.#values.get(name);
    return value ?? (this.#outer ? this.#outer.#lookup(name) : undefined);
  }

  #applyHint(info: ValueInfoProto): void {
    const value = this.#values.get(info.name ?? '');
    // Hints may be of any kind and are never needed: what cannot be read is passed over.
    if (!value || value.type || !info.type?.tensorType) return;
    try {
      value.type = tensorType(info.type, `value ${quote(value.name)}`);
    } catch (error) {
      if (!(error instanceof Q8Error)) throw error;
    }
  }

  #typeOf(info: ValueInfoProto, where: string): ValueType | undefined {
    if (!info.type) return undefined;
    // Bodies may leave the element type of their inputs and outputs open.
    if (this.#outer && !info.type.tensorType?.elemType) return undefined;
    return this.#problems.guard(() => tensorType(info.type!, where));
  }

  *#readAttributes(proto: NodeProto, node: string, isConstant: boolean): Generator<[string, Attribute]> {
    const seen = new Set<string>();
    for (const attribute of proto.attribute ?? []) {
      const name = attribute.name ?? '';
      const where = `attribute ${quote(name)} of node ${quote(node)}`;
      if (name === '' || seen.has(name)) {
        this.#problems.add(
          'ERR_Q8_BAD_MODEL',
          name === '' ? `An attribute of node ${quote(node)} has no name.` : `There are two of ${where}.`,
        );
        continue;
      }
      seen.add(name);
      const exact = isConstant ? exactConstant(attribute) : undefined;
      if (exact) {
        yield ['value', exact];
        continue;
      }
      const value = this.#problems.guard(() => this.#readAttribute(attribute, where));
      if (value) yield [name, value];
    }
  }

  #readAttribute(proto: AttributeProto, where: string): Attribute {
    switch (attributeType(proto)) {
      case AttributeType.FLOAT:
        return { kind: 'float', value: proto.f ?? 0 };
      case AttributeType.INT:
        return { kind: 'int', value: clampedInteger(proto.i ?? 0) };
      case AttributeType.STRING:
        return { kind: 'string', value: UTF8.decode(proto.s ?? new Uint8Array()) };
      case AttributeType.TENSOR:
        return { kind: 'tensor', value: tensorFromProto(proto.t ?? {}, where) };
      case AttributeType.GRAPH:
        return { kind: 'graph', value: this.#readBody(proto.g ?? {}) };
      case AttributeType.FLOATS:
        return { kind: 'floats', value: proto.floats ?? [] };
      case AttributeType.INTS:
        return { kind: 'ints', value: (proto.ints ?? []).map(clampedInteger) };
      case AttributeType.STRINGS:
        return { kind: 'strings', value: (proto.strings ?? []).map((bytes) => UTF8.decode(bytes)) };
      case AttributeType.TENSORS:
        return { kind: 'tensors', value: (proto.tensors ?? []).map((tensor) => tensorFromProto(tensor, where)) };
      case AttributeType.GRAPHS:
        return { kind: 'graphs', value: (proto.graphs ?? []).map((body) => this.#readBody(body)) };
      case AttributeType.SPARSE_TENSOR:
      case AttributeType.SPARSE_TENSORS:
      case AttributeType.TYPE_PROTO:
      case AttributeType.TYPE_PROTOS:
        throw new Q8Error('ERR_Q8_UNSUPPORTED_OP', `The kind of ${where} (sparse tensor or type) is not supported.`);
      default:
        throw new Q8Error('ERR_Q8_BAD_MODEL', `The kind of ${where} is unknown.`);
    }
  }

  #readBody(proto: GraphProto): Graph {
    const body = new Graph(proto.name ?? '', { parent: this.#graph, info: this.#graph.info });
    new GraphReader(body, this, this.#problems).read(proto);
    return body;
  }
}

/** Files before IR version 2 leave the type out; the field that is set tells it. */
function attributeType(proto: AttributeProto): number {
  if (proto.type) return proto.type;
  if (proto.t) return AttributeType.TENSOR;
  if (proto.g) return AttributeType.GRAPH;
  if (proto.ints?.length) return AttributeType.INTS;
  if (proto.floats?.length) return AttributeType.FLOATS;
  if (proto.strings?.length) return AttributeType.STRINGS;
  if (proto.tensors?.length) return AttributeType.TENSORS;
  if (proto.graphs?.length) return AttributeType.GRAPHS;
  if (Object.hasOwn(proto, 's')) return AttributeType.STRING;
  if (Object.hasOwn(proto, 'f')) return AttributeType.FLOAT;
  if (Object.hasOwn(proto, 'i')) return AttributeType.INT;
  return AttributeType.UNDEFINED;
}

function clampedInteger(value: Int64): number {
  const number = typeof value === 'number' ? value : Number(toBigInt(value));
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, number));
}

/** The integers of a Constant as a tensor, since an attribute could not hold all of them. */
function exactConstant(proto: AttributeProto): Attribute | undefined {
  if (proto.name === 'value_int') {
    return { kind: 'tensor', value: new Tensor('int64', BigInt64Array.of(toBigInt(proto.i ?? 0)), []) };
  }
  if (proto.name === 'value_ints') {
    return { kind: 'tensor', value: new Tensor('int64', BigInt64Array.from((proto.ints ?? []).map(toBigInt))) };
  }
  return undefined;
}

function tensorType(type: TypeProto, where: string): ValueType {
  const tensor = type.tensorType;
  if (!tensor) {
    const kind = type.sequenceType
      ? 'sequence'
      : type.mapType
        ? 'map'
        : type.optionalType
          ? 'optional'
          : 'other than a tensor';
    throw new Q8Error('ERR_Q8_UNSUPPORTED_DTYPE', `The type of ${where} is ${kind}; only dense tensors are supported.`);
  }
  const dtype: DType = dtypeFromOnnx(tensor.elemType ?? 0, where);
  if (!tensor.shape) return { dtype };
  const shape = (tensor.shape.dim ?? []).map((dim): Dim => {
    if (dim.dimParam && !dim.dimParam.startsWith('?')) return dim.dimParam;
    const size = dim.dimValue ? toSafeInteger(dim.dimValue, `a dimension of ${where}`) : 0;
    return size > 0 ? size : unknownDim();
  });
  return { dtype, shape };
}
