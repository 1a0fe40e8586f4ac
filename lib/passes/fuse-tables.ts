/**
 * Elementwise operators on 8-bit codes are functions of 256 values: they become tables, and chains of tables become
 * one. The results are the same bits, with one pass over memory instead of one per operator. For the runtime only.
 */
import type { Graph, Node, Value } from '../graph/graph';
import { lookupOp } from '../ops/registry';
import { Tensor } from '../tensor/tensor';
import { capturedValues, onlyConsumer } from './matching';

const DOMAIN = 'ai.q8';
/** Position of the tensors among the inputs; the others are scales and zero points. */
const OPERANDS: Readonly<Record<string, readonly number[]>> = {
  QLinearAdd: [0, 3],
  QLinearMul: [0, 3],
  QLinearSigmoid: [0],
  QLinearLeakyRelu: [0],
};

/** Needs dtypes, so inference must have run. Linear. */
export function fuseTables(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const node of graph.topologicalOrder()) {
    const table = tabulate(graph, node) ?? node;
    changed = composeWithProducer(graph, table, captured) || table !== node || changed;
  }
  return changed;
}

/** Replaces an operator with one tensor operand, the others being constant scalars. Returns the TableLookup. */
function tabulate(graph: Graph, node: Node): Node | undefined {
  const operands = node.domain === 'com.microsoft' ? OPERANDS[node.op] : undefined;
  const definition = operands && lookupOp(node);
  const result = node.outputs[0];
  if (!operands || !definition || !result) return undefined;
  let x: Value | undefined;
  const feeds: (Tensor | null)[] = [];
  for (const [i, value] of node.inputs.entries()) {
    const constant = value?.constant;
    const isScalar = !value || (constant !== undefined && constant.size === 1 && constant.dims.length <= 1);
    if (!isScalar && (!operands.includes(i) || (x && x !== value))) return undefined;
    if (!isScalar) x = value;
    feeds.push(isScalar ? (constant ?? null) : everyCode(value));
  }
  if (!x || feeds.includes(null)) return undefined;
  const context = { node, opset: graph.opset(node.domain), outputCount: 1, runSubgraph: () => [] };
  const [codes] = definition.run(feeds, context);
  const { buffer, byteOffset } = codes.data as Uint8Array;
  graph.removeNode(node);
  return addTable(graph, node.name, x, new Uint8Array(buffer, byteOffset, 256), codes.type === 'int8', result);
}

/** The 256 codes of a value's dtype, in the order of their byte patterns; null when it has no such dtype. */
function everyCode(value: Value): Tensor | null {
  const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  switch (value.type?.dtype) {
    case 'uint8':
      return new Tensor('uint8', bytes);
    case 'int8':
      return new Tensor('int8', new Int8Array(bytes.buffer));
    default:
      return null;
  }
}

/** TableLookup(TableLookup(x)) -> TableLookup(x). */
function composeWithProducer(graph: Graph, node: Node, captured: ReadonlySet<Value>): boolean {
  const inner = node.input(0)?.producer;
  const outerTable = tableOf(node);
  const innerTable = inner && tableOf(inner);
  if (!outerTable || !innerTable || !graph.nodes.has(inner)) return false;
  if (onlyConsumer(graph, inner.output, captured) !== node) return false;
  const x = inner.requiredInput(0);
  const result = node.output;
  graph.removeNode(node);
  graph.removeNode(inner);
  addTable(
    graph,
    node.name,
    x,
    innerTable.map((code) => outerTable[code]),
    node.attributes.int('signed', 0) === 1,
    result,
  );
  return true;
}

function tableOf(node: Node): Uint8Array | undefined {
  if (node.domain !== DOMAIN || node.op !== 'TableLookup') return undefined;
  return node.input(1)?.constant?.data as Uint8Array | undefined;
}

function addTable(graph: Graph, name: string, x: Value, table: Uint8Array, signed: boolean, result: Value): Node {
  return graph.addNode({
    name,
    op: 'TableLookup',
    domain: DOMAIN,
    inputs: [x, graph.newConstant(`${name}_table`, new Tensor('uint8', table))],
    outputs: [result],
    attributes: { signed: { kind: 'int', value: signed ? 1 : 0 } },
  });
}
