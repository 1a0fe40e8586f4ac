/**
 * `npm run bench`: all measurements, or `npm run bench -- gemm` and `npm run bench -- nets`. Nothing here passes or fails;
 * the numbers are evidence for changes, and CONTRIBUTING.md says how to report them.
 */
import { spawnSync } from 'node:child_process';
import { Command, InvalidArgumentError, Option } from 'commander';
import { collectNames, collectShapes, parsePositiveInteger } from '../../lib/cli/context';
import { Progress } from '../../lib/cli/ui/progress';
import { Terminal } from '../../lib/cli/ui/terminal';
import { cpuInfo } from '../../lib';
import {
  benchGemm,
  describe,
  type GemmRow,
  machine,
  type TypePair,
  WEIGHT_KINDS,
  type WeightKind,
} from '../../lib/bench/gemm';
import { formatGemm } from '../../lib/cli/ui/gemm-table';
import * as ort from 'onnxruntime-node';
import { medians } from './rounds';
import { type GemmResults, saveGemm } from './save';
import { benchNets, formatNets, NET_PARTS, type NetPart, type NetResults } from './nets';

interface Flags {
  pairs: TypePair[];
  threads?: number;
  filter: string;
  batch: number[];
  parts: NetPart[];
  milliseconds: number;
  rounds: number;
  rebuild: boolean;
  weights: WeightKind;
  isas?: string[];
  save?: string;
  shape?: Map<string, number[]>;
  json?: boolean;
}

function collectNumbers(value: string): number[] {
  return value.split(',').map(parsePositiveInteger);
}

function collectParts(value: string): NetPart[] {
  return value.split(',').map((name) => {
    const part = NET_PARTS.find((known) => known === name);
    if (!part) throw new InvalidArgumentError(`The parts are ${NET_PARTS.join(', ')}.`);
    return part;
  });
}

/** The same measurement on several instruction sets: Q8_ISA is read once per process. */
function benchIsas(isas: readonly string[], { save }: Flags): void {
  const passed = process.argv
    .slice(2)
    .filter((_, i, all) => !/^--(isas|save)/.test(all[i]) && !/^--(isas|save)$/.test(all[i - 1] ?? ''));
  const results = isas.map((isa): GemmResults => {
    const { stdout, status } = spawnSync(process.execPath, [...process.execArgv, __filename, ...passed, '--json'], {
      env: { ...process.env, Q8_ISA: isa },
      stdio: ['ignore', 'pipe', 'inherit'],
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`The benchmark of ${isa} ended with status ${status}.`);
    return JSON.parse(stdout) as GemmResults;
  });
  if (save) saveGemm(save, results);
  for (const { machine: described, gemm } of results)
    process.stdout.write(`${describe(described)}\n${formatGemm(gemm)}\n`);
}

const program = new Command('npm run bench --')
  .argument('[what]', '"gemm", "nets" or "all"', 'all')
  .argument('[models...]', 'models for "nets" instead of its own networks')
  .option('--pairs <types>', 'operand types of gemm: u8s8, u8u8, s8s8, s8u8; comma-separated', collectNames)
  .option('--threads <count>', 'only this many threads, instead of one and all', parsePositiveInteger)
  .option('--filter <text>', 'only shapes of gemm ("MxNxK") and networks whose name holds the text', '')
  .option('--batch <sizes>', 'batches of nets; comma-separated', collectNumbers, [1, 8])
  .option('--parts <names>', `what to measure of nets: ${NET_PARTS.join(', ')}; comma-separated`, collectParts, [
    ...NET_PARTS,
  ])
  .option('--milliseconds <number>', 'time for each contender', parsePositiveInteger, 350)
  .option('--rounds <count>', 'turns of each contender in nets', parsePositiveInteger, 7)
  .option('--rebuild', 'build and quantize the networks anew', false)
  .option('--shape <input=1x3x64x64>', 'shape of an input of the models; repeatable', collectShapes)
  .addOption(
    new Option('--weights <kind>', 'how the weights of gemm are distributed').choices(WEIGHT_KINDS).default('uniform'),
  )
  .option('--isas <names>', 'instruction sets of gemm, each in a process of its own; comma-separated', collectNames)
  .option('--save <folder>', 'write gemm.json, gemm.md and the charts there')
  .option('--json', 'print JSON')
  .action(async (what: string, models: string[], flags: Flags) => {
    if (flags.isas) {
      benchIsas(flags.isas, flags);
      return;
    }
    const { pairs = ['u8s8'], filter, milliseconds, shape = new Map(), json } = flags;
    const { weights, batch: batches, parts, rounds, rebuild } = flags;
    const threads = flags.threads ? [flags.threads] : [...new Set([1, cpuInfo().threads])];
    const terminal = new Terminal(process.stdout, process.stderr);
    const progress = new Progress(terminal);
    const gemm: GemmRow[] = [];
    let nets: NetResults | undefined;
    if (what === 'gemm' || what === 'all') {
      await benchGemm(
        { pairs, threads, filter, weights, ort, medians: (contenders) => medians(contenders, milliseconds) },
        (row) => progress.update('gemm', gemm.push(row)),
      );
    }
    if (what === 'nets' || what === 'all') {
      let done = 0;
      nets = await benchNets(
        { models, threads, batches, shapes: shape, filter, milliseconds, rounds, rebuild, parts },
        (name) => progress.update(name, done++),
      );
    }
    progress.clear();
    const described = machine(ort);
    if (flags.save) saveGemm(flags.save, [{ machine: described, gemm }]);
    if (json) {
      terminal.printJson({ machine: described, gemm, nets });
      return;
    }
    terminal.print(describe(described));
    if (gemm.length > 0) terminal.print(`\n${formatGemm(gemm)}`);
    if (nets) terminal.print(`\n${formatNets(nets)}`);
  });

void program.parseAsync();
