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

/** A function of codes: entry i is the code of the byte pattern i. */
interface CodeTable {
  bytes: Uint8Array;
  isSigned: boolean;
}

/** Needs dtypes, so inference must have run. Linear. */
export function fuseTables(graph: Graph): boolean {
  const captured = capturedValues(graph);
  const tables: Tables = new Map();
  let changed = false;
  for (const node of graph.topologicalOrder()) {
    if (!graph.nodes.has(node)) continue;
    const operands = operandsOf(node);
    if (operands?.length === 2) {
      const product = tabulate(graph, node, operands, captured, tables);
      if (product) {
        composeWithProducer(graph, product, captured);
        changed = true;
        continue;
      }
      // They have waited in vain.
      for (const index of operands) {
        const producer = node.input(index)?.producer;
        if (producer && graph.nodes.has(producer) && operandsOf(producer)?.length === 1)
          changed = replace(graph, producer, captured, tables) || changed;
      }
    } else if (operands) {
      // What a product may take into its own table needs no node until that has failed.
      const consumer = onlyConsumer(graph, node.output, captured);
      if (consumer && graph.nodes.has(consumer) && operandsOf(consumer)?.length === 2) continue;
      changed = replace(graph, node, captured, tables) || changed;
    } else {
      changed = composeWithProducer(graph, node, captured) || changed;
    }
  }
  return changed;
}

/** Tables of operators with one operand that have been computed. */
type Tables = Map<Node, CodeTable | undefined>;

function operandsOf(node: Node): readonly number[] | undefined {
  return node.domain === 'com.microsoft' ? OPERANDS[node.op] : undefined;
}

/** An operator with one operand becomes a TableLookup. */
function replace(graph: Graph, node: Node, captured: ReadonlySet<Value>, tables: Tables): boolean {
  const table = tableOf(graph, node, tables);
  if (!table) return false;
  const x = node.requiredInput(0);
  const { output } = node;
  graph.removeNode(node);
  composeWithProducer(graph, addTable(graph, node.name, x, table, output), captured);
  return true;
}

/**
 * Replaces an operator whose two operands are functions of the codes of one value (x * sigmoid(x)), scales and zero points
 * being constant scalars. Returns the TableLookup.
 */
function tabulate(
  graph: Graph,
  node: Node,
  operands: readonly number[],
  captured: ReadonlySet<Value>,
  tables: Tables,
): Node | undefined {
  const chains = new Map<Value, Value[]>();
  for (const [i, value] of node.inputs.entries()) {
    if (!value || isScalarConstant(value)) continue;
    if (!operands.includes(i)) return undefined;
    chains.set(value, tableChain(graph, value, tables));
  }
  const [first, ...others] = chains.values();
  const x = first?.find((value) => others.every((chain) => chain.includes(value)));
  const codes = x && everyCode(x);
  if (!codes || !node.outputs[0]) return undefined;
  const table = compute(graph, node, (value) => {
    const chain = chains.get(value);
    if (!chain) return value.constant!;
    // From x down to the operand.
    return chain.slice(0, chain.indexOf(x)).reduceRight<Tensor>((tensor, to) => {
      const { bytes, isSigned } = tableOf(graph, to.producer!, tables)!;
      return applyTable(tensor, bytes, isSigned ? 'int8' : 'uint8');
    }, codes);
  });
  const { output } = node;
  graph.removeNode(node);
  for (const chain of chains.values()) removeUnread(graph, chain.slice(0, chain.indexOf(x)), captured);
  return addTable(graph, node.name, x, table, output);
}

function isScalarConstant({ constant }: Value): boolean {
  return constant !== undefined && constant.size === 1 && constant.dims.length <= 1;
}

/** The value, and what it is a table of, and so on. */
function tableChain(graph: Graph, value: Value, tables: Tables): Value[] {
  const chain = [value];
  for (let node = value.producer; node && tableOf(graph, node, tables); node = chain[chain.length - 1].producer)
    chain.push(node.requiredInput(0));
  return chain;
}

/** The table of a TableLookup, or of an operator with one operand of codes and constant parameters. */
function tableOf(graph: Graph, node: Node, tables: Tables): CodeTable | undefined {
  const made = lookupTable(node);
  if (made) return made;
  if (operandsOf(node)?.length !== 1) return undefined;
  if (tables.has(node)) return tables.get(node);
  const x = node.input(0);
  const codes = x && everyCode(x);
  const isConstant = node.inputs.every((value, i) => i === 0 || !value || isScalarConstant(value));
  const table =
    codes && isConstant && node.outputs[0]
      ? compute(graph, node, (value) => (value === x ? codes : value.constant!))
      : undefined;
  tables.set(node, table);
  return table;
}

/** What the operator makes of operands of 256 codes. */
function compute(graph: Graph, node: Node, tensorOf: (value: Value) => Tensor): CodeTable {
  const feeds = node.inputs.map((value) => value && tensorOf(value));
  const context = { node, opset: graph.opset(node.domain), outputCount: 1, runSubgraph: () => [] };
  const [output] = lookupOp(node)!.run(feeds, context);
  const { buffer, byteOffset } = output.data as Uint8Array;
  return { bytes: new Uint8Array(buffer, byteOffset, 256), isSigned: output.type === 'int8' };
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
  const outer = lookupTable(node);
  const inner = outer && node.requiredInput(0).producer;
  const innerTable = inner && lookupTable(inner);
  if (!innerTable || !graph.nodes.has(inner)) return false;
  if (onlyConsumer(graph, inner.output, captured) !== node) return false;
  const x = inner.requiredInput(0);
  const { output } = node;
  graph.removeNode(node);
  graph.removeNode(inner);
  const bytes = innerTable.bytes.map((code) => outer.bytes[code]);
  addTable(graph, node.name, x, { bytes, isSigned: outer.isSigned }, output);
  return true;
}

function lookupTable(node: Node): CodeTable | undefined {
  if (node.domain !== DOMAIN || node.op !== 'TableLookup') return undefined;
  const bytes = node.input(1)?.constant?.data as Uint8Array | undefined;
  return bytes && { bytes, isSigned: node.attributes.int('signed', 0) === 1 };
}

function addTable(graph: Graph, name: string, x: Value, { bytes, isSigned }: CodeTable, result: Value): Node {
  return graph.addNode({
    name,
    op: 'TableLookup',
    domain: DOMAIN,
    inputs: [x, graph.newConstant(`${name}_table`, new Tensor('uint8', bytes))],
    outputs: [result],
    attributes: { signed: { kind: 'int', value: isSigned ? 1 : 0 } },
  });
}
