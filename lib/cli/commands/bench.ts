/** `q8 bench`: speed of qgemm on this CPU, or of a model. For comparisons with other runtimes see test/bench/. */
import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import { cpuInfo, InferenceSession, packWeights, qgemm } from '../../index';
import { measurePeak } from '../../kernels/cpu-info';
import { type CommandContext, collectShapes, parseCount, parseNumber } from '../context';
import { randomFeeds } from '../../readers/random';
import { interleave } from '../../report/measure';
import { Progress } from '../ui/progress';
import { formatTable } from '../ui/table';
import { formatDuration } from '../ui/units';

/** [M, N, K] of fully connected layers, attention projections and convolutions seen as GEMM. */
const SHAPES: readonly (readonly [number, number, number])[] = [
  [1, 1024, 1024],
  [64, 768, 768],
  [128, 3072, 768],
  [512, 512, 512],
  [1024, 1024, 1024],
  [784, 128, 1152],
  [3136, 64, 576],
];

interface BenchFlags {
  seconds: number;
  threads: number;
  shape?: Map<string, number[]>;
}

export function addBench(program: Command, context: CommandContext): void {
  program
    .command('bench')
    .description('measure qgemm ("q8 bench gemm") or a model ("q8 bench model.onnx")')
    .argument('<what>', '"gemm" or a model')
    .option('--seconds <number>', 'time for each measurement', parseNumber, 0.5)
    .option('--threads <count>', 'threads; 0 = all', parseCount, 0)
    .option('--shape <input=1x3x64x64>', 'shape of an input of the model; repeatable', collectShapes)
    .action(async (what: string, flags: BenchFlags) => {
      if (what === 'gemm') await benchGemm(flags, context);
      else await benchModel(what, flags, context);
    });
}

async function benchGemm(
  { seconds, threads }: BenchFlags,
  { terminal, isJson, interrupt }: CommandContext,
): Promise<void> {
  const used = threads === 0 ? cpuInfo().threads : threads;
  const peak = measurePeak() * used;
  const progress = new Progress(terminal);
  const results = [];
  for (const [done, [m, n, k]] of SHAPES.entries()) {
    progress.update('qgemm', done, SHAPES.length);
    // qgemm blocks; a turn of the event loop lets Ctrl-C through.
    await setImmediate();
    interrupt.throwIfAborted();
    const a = Uint8Array.from({ length: m * k }, (_, i) => (i * 31) & 255);
    const b = packWeights({ k, n, b: Int8Array.from({ length: k * n }, (_, i) => (i * 17) & 255) });
    const out = new Int32Array(m * n);
    const [timing] = await interleave(
      [{ name: 'qgemm', run: () => qgemm({ m, k, n, a, b, out, threads: used }) }],
      seconds * 1000,
    );
    const rate = (m * k * n) / timing.median / 1e6;
    results.push({ m, n, k, milliseconds: timing.median, gmacPerSecond: rate, percentOfPeak: (100 * rate) / peak });
  }
  progress.clear();
  if (isJson) {
    terminal.printJson({ threads: used, peakGmacPerSecond: peak, results });
    return;
  }
  const rows = results.map((row) => [
    `${row.m} x ${row.n} x ${row.k}`,
    formatDuration(row.milliseconds),
    row.gmacPerSecond.toFixed(1),
    `${row.percentOfPeak.toFixed(0)} %`,
  ]);
  terminal.print(
    formatTable(['M x N x K', 'median', 'GMAC/s', 'of peak'], rows, { align: 'lrrr', styleHeader: terminal.out.bold }),
  );
  terminal.note(`u8 x s8, weights packed, ${used} threads; peak ${peak.toFixed(1)} GMAC/s measured on registers`);
}

async function benchModel(
  path: string,
  flags: BenchFlags,
  { terminal, isJson, interrupt }: CommandContext,
): Promise<void> {
  const session = await InferenceSession.create(path, { threads: flags.threads });
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
