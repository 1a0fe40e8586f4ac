/** `q8 bench`: speed of qgemm on this CPU, beside onnxruntime-node where that is installed, or of a model. */
import { writeFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { benchGemm, describe, type GemmRow, machine, SHAPES, TYPE_PAIRS, type TypePair } from '../../bench/gemm';
import { percentChart } from '../../bench/gemm-chart';
import { Q8Error } from '../../errors';
import { cpuInfo, InferenceSession } from '../../index';
import { loadOrt } from '../../quantize/engines/ort';
import { randomFeeds } from '../../readers/random';
import { interleave, mediansOfTurns } from '../../report/measure';
import { type CommandContext, collectShapes, parseCount, parseNumber } from '../context';
import { formatGemm } from '../ui/gemm-table';
import { Progress } from '../ui/progress';
import { formatTable } from '../ui/table';
import { formatDuration } from '../ui/units';

interface BenchFlags {
  seconds: number;
  threads?: number;
  pairs: TypePair[];
  filter: string;
  chart?: string;
  shape?: Map<string, number[]>;
}

export function addBench(program: Command, context: CommandContext): void {
  program
    .command('bench')
    .description('measure qgemm ("q8 bench gemm") or a model ("q8 bench model.onnx")')
    .argument('<what>', '"gemm" or a model')
    .option('--seconds <number>', 'time for each measurement', parseNumber, 0.5)
    .option('--threads <count>', 'threads; 0 = all; default: all, and of gemm also one', parseCount)
    .option('--pairs <types>', `types of A and B of gemm: ${TYPE_PAIRS.join(', ')}; comma-separated`, collectPairs, [
      ...TYPE_PAIRS,
    ])
    .option('--filter <text>', 'only shapes of gemm whose "MxNxK" holds the text', '')
    .option('--chart <file.svg>', 'draw which part of the peak each shape of gemm reaches')
    .option('--shape <input=1x3x64x64>', 'shape of an input of the model; repeatable', collectShapes)
    .action(async (what: string, flags: BenchFlags) => {
      if (what === 'gemm') await benchQgemm(flags, context);
      else await benchModel(what, flags, context);
    });
}

function collectPairs(value: string): TypePair[] {
  return value.split(',').map((name) => {
    const pair = TYPE_PAIRS.find((known) => known === name);
    if (!pair) throw new InvalidArgumentError(`The pairs are ${TYPE_PAIRS.join(', ')}.`);
    return pair;
  });
}

async function benchQgemm(flags: BenchFlags, { terminal, isJson, interrupt }: CommandContext): Promise<void> {
  const ort = await loadOrt();
  const all = cpuInfo().threads;
  const threads = flags.threads === undefined ? [...new Set([1, all])] : [flags.threads || all];
  const progress = new Progress(terminal);
  const rows: GemmRow[] = [];
  const shapes = SHAPES.map((shape) => shape.join('x'));
  const count = shapes.filter((shape) => shape.includes(flags.filter)).length;
  if (count === 0) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Expected --filter to match a shape, got "${flags.filter}".`, {
      hint: `the shapes are ${shapes.join(', ')}.`,
    });
  }
  await benchGemm(
    {
      pairs: flags.pairs,
      threads,
      filter: flags.filter,
      weights: 'uniform',
      ort,
      medians: async (contenders) => {
        // qgemm blocks; a turn of the event loop lets Ctrl-C through.
        await setImmediate();
        interrupt.throwIfAborted();
        return mediansOfTurns(contenders, flags.seconds * 1000);
      },
    },
    (row) => progress.update('qgemm', rows.push(row), count * flags.pairs.length * threads.length),
  );
  progress.clear();
  const described = machine(ort);
  if (flags.chart) {
    // One picture for what was measured first: a type pair on a number of threads.
    const [{ pair, threads: used }] = rows;
    const drawn = rows.filter((row) => row.pair === pair && row.threads === used);
    const title = `qgemm ${pair}, ${used === 1 ? 'one thread' : `${used} threads`}, ${described.cpu}`;
    await writeFile(flags.chart, percentChart(title, [{ isa: described.isa, machine: described, rows: drawn }]));
  }
  if (isJson) {
    terminal.printJson({ machine: described, gemm: rows });
    return;
  }
  terminal.print(formatGemm(rows, { styleHeader: terminal.out.bold }));
  terminal.note(describe(described));
  if (!ort) terminal.note('to compare, run "npm install onnxruntime-node" beside q8');
}

async function benchModel(
  path: string,
  flags: BenchFlags,
  { terminal, isJson, interrupt }: CommandContext,
): Promise<void> {
  const session = await InferenceSession.create(path, { threads: flags.threads ?? 0 });
  const [feed] = randomFeeds(session.inputMetadata, 1, flags.shape);
  terminal.note(`measuring ${path} for ${flags.seconds} s`);
  const run = { name: path, run: () => session.run(feed, { signal: interrupt }) };
  const [timing] = await interleave([run], flags.seconds * 1000);
  session.dispose();
  if (isJson) {
    terminal.printJson({ model: path, milliseconds: timing.median, minimum: timing.minimum, runs: timing.runs });
    return;
  }
  const rows = [
    [
      path,
      formatDuration(timing.median),
      formatDuration(timing.minimum),
      (1000 / timing.median).toFixed(0),
      timing.runs,
    ],
  ];
  terminal.print(
    formatTable(['model', 'median', 'best', 'runs/s', 'runs'], rows, {
      align: 'lrrrr',
      styleHeader: terminal.out.bold,
    }),
  );
}
