/** `q8 inspect`: what is in a model, and which of it runs on native kernels. */
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { nodesOf } from '../../graph/bodies';
import { graphFromProto } from '../../graph/from-proto';
import type { Graph, Node } from '../../graph/graph';
import { InferenceSession } from '../../index';
import { readModel } from '../../onnx/read';
import { fileBytesOf } from '../../tensor/dtype';
import type { CommandContext } from '../context';
import { formatPairs, formatTable } from '../ui/table';
import { formatBytes, formatShape } from '../ui/units';

interface Port {
  name: string;
  type: string;
  shape: readonly (number | string)[] | undefined;
}

interface Inspection {
  file: { path: string; bytes: number };
  producer: string;
  opsets: Record<string, number>;
  inputs: Port[];
  outputs: Port[];
  /** Bytes and number of the constants, by type. */
  constants: Record<string, { count: number; bytes: number }>;
  /** Nodes of the file by operator; `quantized` are those that take or give 8-bit codes. */
  operators: { op: string; count: number; quantized: number }[];
  /** Nodes as q8 runs them, after folding and fusion; null when it cannot run the model (then `problem` says why). */
  execution: { nodes: ReturnType<typeof nodesOfSession>; native: number; typescript: number; unknown: number } | null;
  problem?: string;
}

export function addInspect(program: Command, context: CommandContext): void {
  program
    .command('inspect')
    .description('show the inputs, outputs, operators and types of a model, and what of it runs natively')
    .argument('<model.onnx>')
    .option('--nodes', 'also list every node as it runs')
    .action(async (path: string, { nodes }: { nodes?: boolean }) => {
      const inspection = await inspect(path);
      const { terminal } = context;
      if (context.isJson) terminal.printJson(inspection);
      else terminal.print(formatInspection(inspection, nodes === true, terminal.out.bold));
    });
}

async function inspect(path: string): Promise<Inspection> {
  const { size } = await stat(path);
  const { model } = await readModel(path);
  const graph = graphFromProto(model);
  const { producerName, producerVersion } = graph.info;
  return {
    file: { path, bytes: size },
    producer: `${producerName} ${producerVersion}`.trim(),
    opsets: Object.fromEntries([...graph.opsets].map(([domain, version]) => [domain || 'ai.onnx', version])),
    inputs: graph.inputs.map(portOf),
    outputs: graph.outputs.map(portOf),
    constants: countConstants(graph),
    operators: countOperators(graph),
    ...(await planExecution(path)),
  };
}

function portOf({ name, type }: Graph['inputs'][number]): Port {
  return { name, type: type?.dtype ?? 'unknown', shape: type?.shape };
}

function countConstants(graph: Graph): Inspection['constants'] {
  const constants: Inspection['constants'] = {};
  for (const { constant } of graph.constants()) {
    if (!constant) continue;
    const { count, bytes } = constants[constant.type] ?? { count: 0, bytes: 0 };
    constants[constant.type] = { count: count + 1, bytes: bytes + fileBytesOf(constant.type, constant.size) };
  }
  return constants;
}

function countOperators(graph: Graph): Inspection['operators'] {
  const counts = new Map<string, { op: string; count: number; quantized: number }>();
  for (const node of nodesOf(graph)) {
    const op = node.domain === '' ? node.op : `${node.domain}.${node.op}`;
    const entry = counts.get(op) ?? { op, count: 0, quantized: 0 };
    counts.set(op, entry);
    entry.count++;
    if (isQuantized(node)) entry.quantized++;
  }
  return [...counts.values()].sort((a, b) => b.count - a.count || a.op.localeCompare(b.op));
}

/** Integer operators by name, and float ones between DequantizeLinear and QuantizeLinear. */
function isQuantized(node: Node): boolean {
  if (/^(QLinear|QGemm|QAttention|.*Integer)/.test(node.op) || /^(Dynamic)?(Q|Deq)uantizeLinear$/.test(node.op))
    return true;
  return node.inputs.some((value) => value?.producer?.op === 'DequantizeLinear');
}

async function planExecution(path: string): Promise<Pick<Inspection, 'execution' | 'problem'>> {
  try {
    const session = await InferenceSession.create(path);
    const nodes = nodesOfSession(session);
    session.dispose();
    const count = (road: string) => nodes.filter((node) => node.road === road).length;
    return {
      execution: { nodes, native: count('native'), typescript: count('typescript'), unknown: count('unknown') },
    };
  } catch (error) {
    return { execution: null, problem: (error as Error).message };
  }
}

function nodesOfSession(session: InferenceSession) {
  return session.nodes.map(({ name, op, road, outputs }) => ({ name, op, road, outputs }));
}

function formatInspection(inspection: Inspection, withNodes: boolean, bold: (text: string) => string): string {
  const { file, producer, opsets, inputs, outputs, constants, operators, execution, problem } = inspection;
  const port = ({ name, type, shape }: Port) => `${name}: ${type}${formatShape(shape)}`;
  const pairs: [string, string][] = [
    ['Model', `${file.path}, ${formatBytes(file.bytes)}`],
    ['Producer', producer || 'unknown'],
    [
      'Opsets',
      Object.entries(opsets)
        .map(([domain, version]) => `${domain} ${version}`)
        .join(', '),
    ],
    ...inputs.map((input, i): [string, string] => [i === 0 ? 'Inputs' : '', port(input)]),
    ...outputs.map((output, i): [string, string] => [i === 0 ? 'Outputs' : '', port(output)]),
    [
      'Constants',
      Object.entries(constants)
        .map(([type, { count, bytes }]) => `${count} ${type} (${formatBytes(bytes)})`)
        .join(', ') || 'none',
    ],
    ['Runs', execution ? describeExecution(execution) : `not in q8: ${problem}`],
  ];
  const rows = operators.map(({ op, count, quantized }) => [op, count, quantized]);
  const parts = [
    formatPairs(pairs, bold),
    formatTable(['operator', 'nodes', 'quantized'], rows, { align: 'lrr', styleHeader: bold }),
  ];
  if (withNodes && execution) {
    const list = execution.nodes.map(({ name, op, road, outputs: made }) => [
      name,
      op,
      road,
      made.map(({ type, shape }) => `${type ?? 'unknown'}${formatShape(shape)}`).join(' '),
    ]);
    parts.push(formatTable(['node as it runs', 'operator', 'road', 'gives'], list, { styleHeader: bold }));
  }
  return parts.join('\n\n');
}

function describeExecution({ nodes, native, typescript, unknown }: NonNullable<Inspection['execution']>): string {
  const parts = [`${nodes.length} nodes after fusion: ${native} native, ${typescript} in TypeScript`];
  if (typescript > 0) {
    const ops = new Set(nodes.filter((node) => node.road === 'typescript').map((node) => node.op));
    parts.push(`(${[...ops].sort().join(', ')})`);
  }
  if (unknown > 0) parts.push(`, ${unknown} that only a run can tell`);
  return parts.join(' ').replace(' ,', ',');
}
