/**
 * `npm run bench`: all measurements, or `npm run bench -- gemm` and `npm run bench -- nets`. Nothing here passes or fails;
 * the numbers are evidence for changes, and CONTRIBUTING.md says how to report them.
 */
import { Command } from 'commander';
import { collectNames, collectShapes, parsePositiveInteger } from '../../lib/cli/context';
import { Progress } from '../../lib/cli/ui/progress';
import { Terminal } from '../../lib/cli/ui/terminal';
import { cpuInfo } from '../../lib';
import { benchGemm, formatGemm, type GemmRow, machine, type TypePair } from './gemm';
import { benchNets, formatNets, type NetRow } from './nets';

interface Flags {
  pairs: TypePair[];
  threads?: number;
  filter: string;
  milliseconds: number;
  shape?: Map<string, number[]>;
  json?: boolean;
}

const program = new Command('npm run bench --')
  .argument('[what]', '"gemm", "nets" or "all"', 'all')
  .argument('[models...]', 'models for "nets" instead of the example networks')
  .option('--pairs <types>', 'operand types of gemm: u8s8, u8u8, s8s8, s8u8; comma-separated', collectNames)
  .option('--threads <count>', 'only this many threads, instead of one and all', parsePositiveInteger)
  .option('--filter <text>', 'only shapes of gemm whose "MxNxK" holds the text', '')
  .option('--milliseconds <number>', 'time for each contender', parsePositiveInteger, 350)
  .option('--shape <input=1x3x64x64>', 'shape of an input of the models; repeatable', collectShapes)
  .option('--json', 'print JSON')
  .action(async (what: string, models: string[], flags: Flags) => {
    const { pairs = ['u8s8'], filter, milliseconds, shape = new Map(), json } = flags;
    const threads = flags.threads ? [flags.threads] : [...new Set([1, cpuInfo().threads])];
    const terminal = new Terminal(process.stdout, process.stderr);
    const progress = new Progress(terminal);
    const gemm: GemmRow[] = [];
    const nets: NetRow[] = [];
    if (what === 'gemm' || what === 'all') {
      await benchGemm({ pairs, threads, filter, milliseconds }, (row) => progress.update('gemm', gemm.push(row)));
    }
    if (what === 'nets' || what === 'all') {
      await benchNets({ models, threads, shapes: shape, milliseconds }, (row) =>
        progress.update('nets', nets.push(row)),
      );
    }
    progress.clear();
    if (json) {
      terminal.printJson({ machine: machine(), gemm, nets });
      return;
    }
    terminal.print(
      Object.entries(machine())
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    );
    if (gemm.length > 0) terminal.print(`\n${formatGemm(gemm)}`);
    if (nets.length > 0) terminal.print(`\n${formatNets(nets)}`);
  });

void program.parseAsync();
