/**
 * The ONNX messages as plain types, and 64-bit integers out of them. A field that the file leaves out is undefined, null
 * or the default of its type. The generated code behind it is onnx-proto.js.
 */
import { expected } from '../errors';
import { onnx } from './onnx-proto';

export type ModelProto = onnx.ModelProto.$Properties;
export type GraphProto = onnx.GraphProto.$Properties;
export type NodeProto = onnx.NodeProto.$Properties;
export type AttributeProto = onnx.AttributeProto.$Properties;
export type TensorProto = onnx.TensorProto.$Properties;
export type ValueInfoProto = onnx.ValueInfoProto.$Properties;
export type TypeProto = onnx.TypeProto.$Properties;
export type FunctionProto = onnx.FunctionProto.$Properties;
export type OperatorSetIdProto = onnx.OperatorSetIdProto.$Properties;

/** Numbers of AttributeProto.AttributeType. */
export const { AttributeType } = onnx.AttributeProto;
/** Numbers of TensorProto.DataLocation. */
export const { DataLocation } = onnx.TensorProto;

/** A 64-bit field: two 32-bit halves as decoded, or a number where code has set it. */
export type Int64 = Exclude<onnx.ModelProto['irVersion'], undefined>;

/** The exact value of a 64-bit field. */
export function toBigInt(value: Int64): bigint {
  if (typeof value === 'number') return BigInt(value);
  const high = value.unsigned ? value.high >>> 0 : value.high;
  return (BigInt(high) << 32n) | BigInt(value.low >>> 0);
}

/** The value as a number. @throws ERR_Q8_BAD_MODEL when it is beyond 2^53. `where` names the field. */
export function toSafeInteger(value: Int64 | null | undefined, where: string): number {
  const number = typeof value === 'number' ? value : Number(toBigInt(value ?? 0));
  if (!Number.isSafeInteger(number)) {
    throw expected('an integer below 2^53', where, toBigInt(value ?? 0), { code: 'ERR_Q8_BAD_MODEL' });
  }
  return number;
}

/** The domain of a node or operator set: '' for the standard operators, however they are spelled. */
export function domainOf(domain: string | null | undefined): string {
  return !domain || domain === 'ai.onnx' ? '' : domain;
}

/** Every tensor of a graph: initializers and attributes, those of subgraphs included. */
export function* tensorsOf(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer ?? [];
  for (const node of graph.node ?? []) yield* tensorsOfNode(node);
}

/** Every tensor of a model. */
export function* tensorsOfModel(model: ModelProto): Generator<TensorProto> {
  if (model.graph) yield* tensorsOf(model.graph);
  for (const { node } of model.functions ?? []) for (const inner of node ?? []) yield* tensorsOfNode(inner);
}

function* tensorsOfNode(node: NodeProto): Generator<TensorProto> {
  for (const attribute of node.attribute ?? []) {
    if (attribute.t) yield attribute.t;
    yield* attribute.tensors ?? [];
    if (attribute.g) yield* tensorsOf(attribute.g);
    for (const body of attribute.graphs ?? []) yield* tensorsOf(body);
  }
}
