/**
 * Elementwise operators on 8-bit codes are functions of 256 values: they become tables, and chains and products of tables
 * of one value become one. The results are the same bits, with one pass over memory instead of one per operator. For the
 * runtime only.
 */
import type { Graph, Node, Value } from '../graph/graph';
import { ALL_CODES, applyTable } from '../ops/families/quantization';
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
    if (!graph.nodes.has(node)) continue;
    const table = tabulate(graph, node, captured) ?? node;
    changed = composeWithProducer(graph, table, captured) || table !== node || changed;
  }
  return changed;
}

/**
 * Replaces an operator whose tensor operands are all functions of the codes of one value (x * sigmoid(x)), the others being
 * constant scalars. Returns the TableLookup.
 */
function tabulate(graph: Graph, node: Node, captured: ReadonlySet<Value>): Node | undefined {
  const operands = node.domain === 'com.microsoft' ? OPERANDS[node.op] : undefined;
  const definition = operands && lookupOp(node);
  const result = node.outputs[0];
  if (!operands || !definition || !result) return undefined;
  const chains = new Map<Value, Value[]>();
  for (const [i, value] of node.inputs.entries()) {
    if (!value || isScalarConstant(value)) continue;
    if (!operands.includes(i)) return undefined;
    chains.set(value, tableChain(value));
  }
  const [first, ...others] = chains.values();
  const x = first?.find((value) => others.every((chain) => chain.includes(value)));
  const codes = x && everyCode(x);
  if (!codes) return undefined;
  const feeds = node.inputs.map((value) => {
    if (!value) return null;
    const chain = chains.get(value);
    if (!chain) return value.constant!;
    // From x down to the operand.
    return chain.slice(0, chain.indexOf(x)).reduceRight<Tensor>((tensor, to) => lookup(tensor, to.producer!), codes);
  });
  const context = { node, opset: graph.opset(node.domain), outputCount: 1, runSubgraph: () => [] };
  const [output] = definition.run(feeds, context);
  const { buffer, byteOffset } = output.data as Uint8Array;
  graph.removeNode(node);
  for (const chain of chains.values()) removeUnread(graph, chain.slice(0, chain.indexOf(x)), captured);
  return addTable(graph, node.name, x, new Uint8Array(buffer, byteOffset, 256), output.type === 'int8', result);
}

function isScalarConstant({ constant }: Value): boolean {
  return constant !== undefined && constant.size === 1 && constant.dims.length <= 1;
}

/** The value, and what it is a table of, and so on. */
function tableChain(value: Value): Value[] {
  const chain = [value];
  for (let node = value.producer; node && tableOf(node); node = chain[chain.length - 1].producer)
    chain.push(node.requiredInput(0));
  return chain;
}

function lookup(codes: Tensor, node: Node): Tensor {
  return applyTable(codes, tableOf(node)!, node.attributes.int('signed', 0) === 1 ? 'int8' : 'uint8');
}

/** Drops tables that nobody reads any more, the last one of a chain first. */
function removeUnread(graph: Graph, chain: readonly Value[], captured: ReadonlySet<Value>): void {
  for (const value of chain) {
    if (value.consumerCount > 0 || graph.isOutput(value) || captured.has(value) || !value.producer) return;
    graph.removeNode(value.producer);
  }
}

/** The 256 codes of a value's dtype, in the order of their byte patterns; null when it has no such dtype. */
function everyCode(value: Value): Tensor | null {
  const dtype = value.type?.dtype;
  return dtype === 'uint8' || dtype === 'int8' ? ALL_CODES[dtype] : null;
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
