/** Graph to ModelProto: nodes in an executable order that stays close to the original one, constants as raw bytes. */
import { Q8Error } from '../errors';
import {
  type AttributeProto,
  AttributeType,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type ValueInfoProto,
} from '../onnx/proto';
import { onnxCodeOf } from '../tensor/dtype';
import type { Attribute } from './attributes';
import { graphsOf } from './bodies';
import { type Dim, type Graph, isUnknownDim, type Node, subgraphsOf, type Value, type ValueType } from './graph';
import { tensorToProto } from './tensor-proto';

/** Operator sets that q8 adds to a model by itself, with the version it writes. */
const DEFAULT_OPSETS = new Map([['com.microsoft', 1]]);

/** The first IR version that goes with each opset of ai.onnx, from the newest down. */
const IR_OF_OPSET: readonly (readonly [opset: number, ir: number])[] = [
  [25, 13],
  [24, 12],
  [23, 11],
  [21, 10],
  [19, 9],
  [15, 8],
  [12, 7],
  [11, 6],
  [10, 5],
];

/** Since IR version 4 an initializer need not be a graph input; q8 never writes it as one. */
const MIN_IR = 4;

/**
 * The message of a graph. Tensors are not copied: their data must not change until the message is written.
 * @throws ERR_Q8_BAD_MODEL on a cycle or a domain without an operator set, ERR_Q8_INTERNAL when two values share a name.
 */
export function graphToProto(graph: Graph): ModelProto {
  const opsets = new Map(graph.opsets);
  for (const domain of domainsOf(graph)) {
    if (opsets.has(domain)) continue;
    const version = DEFAULT_OPSETS.get(domain);
    if (version === undefined) {
      throw new Q8Error(
        'ERR_Q8_BAD_MODEL',
        `The graph uses domain "${domain || 'ai.onnx'}" but imports no operator set of it.`,
      );
    }
    opsets.set(domain, version);
  }
  const { info } = graph;
  return {
    irVersion: irVersion(info.irVersion, opsets.get('') ?? 0),
    producerName: 'q8',
    producerVersion: packageVersion(),
    domain: info.modelDomain || undefined,
    modelVersion: info.modelVersion || undefined,
    docString: info.docString || undefined,
    graph: writeGraph(graph, null, sharedConstants(graph)),
    opsetImport: [...opsets].map(([domain, version]) => ({ domain, version })),
    metadataProps: [...info.metadata].map(([key, value]) => ({ key, value })),
  };
}

function packageVersion(): string {
  const { version }: { version: string } = require('../../package.json');
  return version;
}

/** Never below what the file had: newer fields may be in use. */
function irVersion(own: number, opset: number): number {
  const needed = IR_OF_OPSET.find(([first]) => opset >= first)?.[1] ?? MIN_IR;
  return Math.max(own, needed);
}

function domainsOf(graph: Graph, into = new Set<string>()): Set<string> {
  for (const node of graph.nodes) {
    into.add(node.domain);
    for (const body of subgraphsOf(node)) domainsOf(body, into);
  }
  return into;
}

/** Values by name that a body can read: its own and those of the graphs around it. */
interface Scope {
  values: Map<string, Value>;
  outer: Scope | null;
}

function isVisible(value: Value, scope: Scope | null): boolean {
  for (let at = scope; at; at = at.outer) if (at.values.get(value.name) === value) return true;
  return false;
}

/** Constants that bodies share, with each other or with a graph around them. The model itself holds them, once. */
function sharedConstants(model: Graph): Value[] {
  const users = new Map<Value, Graph>();
  const shared = new Set<Value>();
  for (const graph of graphsOf(model)) {
    for (const value of readsOf(graph)) {
      if (value?.constant && (users.get(value) ?? graph) !== graph) shared.add(value);
      else if (value?.constant) users.set(value, graph);
    }
  }
  return [...shared];
}

function readsOf(graph: Graph): (Value | null)[] {
  return [...[...graph.nodes].flatMap(({ inputs }) => inputs), ...graph.outputs];
}

/** `shared`: constants to hold for bodies. */
function writeGraph(graph: Graph, outer: Scope | null, shared: readonly Value[] = []): GraphProto {
  const scope: Scope = { values: new Map(), outer };
  const order = graph.topologicalOrder();
  const constants = [...new Set([...ownConstants(graph, order, outer), ...shared])];
  const made = order.flatMap((node) => node.outputs.filter((value) => value !== null));
  for (const value of [...graph.inputs, ...constants, ...made]) {
    const other = scope.values.get(value.name);
    if (other && other !== value) {
      throw new Q8Error('ERR_Q8_INTERNAL', `Two values of graph "${graph.name}" have the name "${value.name}".`);
    }
    scope.values.set(value.name, value);
  }
  const outputs = new Set(graph.outputs);
  return {
    name: graph.name || 'graph',
    node: order.map((node) => writeNode(node, scope)),
    initializer: constants.map((value) => tensorToProto(value.constant!, value.name)),
    input: graph.inputs.map(writeValueInfo),
    output: graph.outputs.map(writeValueInfo),
    valueInfo: made.filter((value) => value.type && !outputs.has(value)).map(writeValueInfo),
  };
}

/** Constants that this graph reads itself, without those that a graph around it writes. */
function ownConstants(graph: Graph, order: readonly Node[], outer: Scope | null): Value[] {
  const own = new Set<Value>();
  for (const node of order) for (const value of node.inputs) if (value?.constant) own.add(value);
  for (const value of graph.outputs) if (value.constant) own.add(value);
  return [...own].filter((value) => !isVisible(value, outer));
}

function writeNode(node: Node, scope: Scope): NodeProto {
  return {
    name: node.name,
    opType: node.op,
    domain: node.domain || undefined,
    input: node.inputs.map((value) => value?.name ?? ''),
    output: node.outputs.map((value) => value?.name ?? ''),
    attribute: [...node.attributes.entries()].map(([name, attribute]) => writeAttribute(name, attribute, scope)),
  };
}

function writeAttribute(name: string, attribute: Attribute, scope: Scope): AttributeProto {
  const encoder = new TextEncoder();
  switch (attribute.kind) {
    case 'float':
      return { name, type: AttributeType.FLOAT, f: attribute.value };
    case 'int':
      return { name, type: AttributeType.INT, i: attribute.value };
    case 'string':
      return { name, type: AttributeType.STRING, s: encoder.encode(attribute.value) };
    case 'tensor':
      return { name, type: AttributeType.TENSOR, t: tensorToProto(attribute.value, '') };
    case 'graph':
      return { name, type: AttributeType.GRAPH, g: writeGraph(attribute.value, scope) };
    case 'floats':
      return { name, type: AttributeType.FLOATS, floats: attribute.value };
    case 'ints':
      return { name, type: AttributeType.INTS, ints: attribute.value };
    case 'strings':
      return { name, type: AttributeType.STRINGS, strings: attribute.value.map((text) => encoder.encode(text)) };
    case 'tensors':
      return { name, type: AttributeType.TENSORS, tensors: attribute.value.map((tensor) => tensorToProto(tensor, '')) };
    case 'graphs':
      return { name, type: AttributeType.GRAPHS, graphs: attribute.value.map((body) => writeGraph(body, scope)) };
  }
}

function writeValueInfo(value: Value): ValueInfoProto {
  return value.type ? { name: value.name, type: writeType(value.type) } : { name: value.name };
}

function writeType({ dtype, shape }: ValueType) {
  return { tensorType: { elemType: onnxCodeOf(dtype), shape: shape && { dim: shape.map(writeDim) } } };
}

function writeDim(dim: Dim) {
  if (typeof dim === 'number') return { dimValue: dim };
  return isUnknownDim(dim) ? {} : { dimParam: dim };
}
