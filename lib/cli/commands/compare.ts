/** `q8 compare`: how far two models are apart on the same data, output by output. */
import type { Command } from 'commander';
import { InferenceSession } from '../../index';
import { cosineSimilarity, maxAbsError, sqnr } from '../../report/metrics';
import { type CommandContext, GateError, parseNumber } from '../context';
import { addDataOptions, type DataFlags, loadFeeds } from '../data-options';
import type { Feed } from '../readers/samples';
import { Progress } from '../ui/progress';
import { formatTable } from '../ui/table';

interface OutputDistance {
  output: string;
  /** dB; Infinity when equal. */
  sqnr: number;
  cosine: number;
  maxAbsError: number;
}

export function addCompare(program: Command, context: CommandContext): void {
  const command = program
    .command('compare')
    .description('run two models on the same data and show how far their outputs are apart')
    .argument('<reference.onnx>', 'the model taken as right')
    .argument('<other.onnx>', 'the model to judge')
    .option('-d, --data <path>', '.npy, .npz or IDX file, or a folder of .npy, .npz or .pb files')
    .option('--min-sqnr <dB>', 'exit with code 3 when an output is worse than this', parseNumber);
  addDataOptions(command).action(
    async (reference: string, other: string, flags: DataFlags & { data?: string; minSqnr?: number }) => {
      const distances = await compare(reference, other, flags, context);
      if (context.isJson) context.terminal.printJson(distances.map(withNumbersForJson));
      else context.terminal.print(formatDistances(distances, context.terminal.out.bold));
      if (flags.random !== undefined) {
        context.terminal.note('Random numbers are not what a model was calibrated for: judge accuracy with --data.');
      }
      const worst = Math.min(...distances.map((distance) => distance.sqnr));
      if (flags.minSqnr !== undefined && !(worst >= flags.minSqnr)) {
        throw new GateError(`The worst SQNR is ${worst.toFixed(2)} dB; --min-sqnr asks for ${flags.minSqnr} dB.`);
      }
    },
  );
}

async function compare(
  reference: string,
  other: string,
  flags: DataFlags & { data?: string },
  { terminal, interrupt }: CommandContext,
): Promise<OutputDistance[]> {
  const sessions = [await InferenceSession.create(reference), await InferenceSession.create(other)];
  const feeds = await loadFeeds(flags.data, sessions[0].inputMetadata, flags, '--data');
  const progress = new Progress(terminal);
  const collected = sessions.map(() => new Map<string, number[][]>());
  for (const [done, feed] of feeds.entries()) {
    progress.update('compare', done, feeds.length);
    for (const [i, session] of sessions.entries()) await runInto(collected[i], session, feed, interrupt);
  }
  progress.clear();
  for (const session of sessions) session.dispose();
  const shared = sessions[0].outputNames.filter((name) => sessions[1].outputNames.includes(name));
  if (shared.length === 0) throw new Error('The models have no output name in common.');
  return shared.map((output) => {
    const [a, b] = collected.map((outputs) => (outputs.get(output) ?? []).flat());
    return { output, sqnr: sqnr(a, b), cosine: cosineSimilarity(a, b), maxAbsError: maxAbsError(a, b) };
  });
}

async function runInto(
  collected: Map<string, number[][]>,
  session: InferenceSession,
  feed: Feed,
  signal: AbortSignal,
): Promise<void> {
  const outputs = await session.run(feed, { signal });
  for (const [name, tensor] of Object.entries(outputs)) {
    const earlier = collected.get(name) ?? [];
    collected.set(name, earlier);
    earlier.push(Array.from(tensor.data as ArrayLike<number | bigint>, Number));
  }
}

/** JSON knows no infinity: equal outputs get an SQNR of null. */
function withNumbersForJson(distance: OutputDistance): Omit<OutputDistance, 'sqnr'> & { sqnr: number | null } {
  return { ...distance, sqnr: Number.isFinite(distance.sqnr) ? distance.sqnr : null };
}

function formatDistances(distances: readonly OutputDistance[], styleHeader: (text: string) => string): string {
  const rows = distances.map(({ output, sqnr, cosine, maxAbsError }) => [
    output,
    sqnr === Number.POSITIVE_INFINITY ? 'equal' : sqnr.toFixed(2),
    cosine.toFixed(6),
    maxAbsError.toPrecision(4),
  ]);
  return formatTable(['output', 'SQNR dB', 'cosine', 'max error'], rows, { align: 'lrrr', styleHeader });
}
