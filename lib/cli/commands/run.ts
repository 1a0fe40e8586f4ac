/** `q8 run`: runs a model once or many times, shows or saves its outputs, and tells where the time goes. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { cpuInfo, InferenceSession, Tensor } from '../../index';
import { measurePeak } from '../../kernels/cpu-info';
import { chromeTrace, profileSvg, profileTable } from '../../report/profile-report';
import type { DType } from '../../tensor/dtype';
import {
  type CommandContext,
  collectFiles,
  collectShapes,
  parseCount,
  parsePositiveInteger,
  UsageError,
} from '../context';
import type { Feed, InputSpec } from '../../readers/inputs';
import { formatNpy } from '../../readers/npy';
import { randomFeeds } from '../../readers/random';
import { readTensor } from '../../readers/samples';
import { interleave } from '../../report/measure';
import { formatTable } from '../ui/table';
import { formatDuration, formatShape } from '../ui/units';

interface RunFlags {
  input?: Map<string, string>;
  random?: boolean;
  seed: number;
  shape?: Map<string, number[]>;
  output?: string;
  runs?: number;
  profile?: true | ProfileFormat;
  threads: number;
}

const PROFILE_FORMATS = ['table', 'chrome', 'svg'] as const;
type ProfileFormat = (typeof PROFILE_FORMATS)[number];

type Outputs = Awaited<ReturnType<InferenceSession['run']>>;

/** Elements of an output that are shown. */
const SHOWN = 8;

export function addRun(program: Command, context: CommandContext): void {
  program
    .command('run')
    .description('run a model')
    .argument('<model.onnx>')
    .option('-i, --input <name=file>', 'a .npy or .pb file for an input; repeatable', collectFiles)
    .option('--random', 'random numbers for the inputs that have no file')
    .option('--seed <number>', 'seed of the random numbers', parseCount, 1)
    .option('--shape <input=1x3x64x64>', 'shape of a random input; repeatable', collectShapes)
    .option('-o, --output <folder>', 'save each output as a .npy file')
    .option('--runs <count>', 'run so many times and show the median', parsePositiveInteger)
    .addOption(
      new Option(
        '--profile [format]',
        'show what each step costs; "chrome" prints a trace for Perfetto, "svg" a picture, and nothing else',
      ).choices(PROFILE_FORMATS),
    )
    .option('--threads <count>', 'threads; 0 = all', parseCount, 0)
    .action(async (model: string, flags: RunFlags) => {
      const session = await InferenceSession.create(model, { threads: flags.threads });
      const feed = await makeFeed(session.inputMetadata, flags);
      const outputs = await session.run(feed, { signal: context.interrupt });
      if (flags.output !== undefined) await save(outputs, flags.output);
      const timing = flags.runs ? await time(session, feed, flags.runs, context.interrupt) : undefined;
      const profile = flags.profile ? session.profile(feed) : undefined;
      session.dispose();
      const { terminal } = context;
      const peak = profile && { threads: flags.threads || cpuInfo().threads, gmacPerSecond: measurePeak() };
      if (profile && peak && flags.profile === 'chrome') {
        terminal.printJson(chromeTrace(profile, peak));
        return;
      }
      if (profile && peak && flags.profile === 'svg') {
        terminal.print(profileSvg(profile, peak));
        return;
      }
      if (context.isJson) {
        terminal.printJson({ outputs: summarize(outputs), ...(timing && { timing }), ...(profile && { profile }) });
        return;
      }
      const rows = summarize(outputs).map(({ name, type, dims, first }) => [
        name,
        `${type}${formatShape(dims)}`,
        first.join(' '),
      ]);
      terminal.print(formatTable(['output', 'type', 'first elements'], rows, { styleHeader: terminal.out.bold }));
      if (timing)
        terminal.print(
          `\nmedian of ${timing.runs} runs: ${formatDuration(timing.median)}, best ${formatDuration(timing.minimum)}`,
        );
      if (profile && peak) {
        const { header, align, cells } = profileTable(profile, peak);
        terminal.print(`\n${formatTable(header, cells, { align, styleHeader: terminal.out.bold })}`);
      }
    });
}

async function makeFeed(inputs: readonly InputSpec[], flags: RunFlags): Promise<Feed> {
  const files = flags.input ?? new Map<string, string>();
  for (const name of files.keys()) {
    if (inputs.some((input) => input.name === name)) continue;
    throw new UsageError(
      `The model has no input ${JSON.stringify(name)}; its inputs are ${inputs.map((i) => i.name).join(', ')}.`,
    );
  }
  const rest = inputs.filter((input) => !files.has(input.name));
  if (rest.length > 0 && !flags.random) {
    throw new UsageError(
      `No data for ${rest.map((input) => input.name).join(', ')}: give --input name=file.npy, or --random.`,
    );
  }
  const [feed] = randomFeeds(rest, 1, flags.shape, flags.seed);
  for (const [name, path] of files) feed[name] = await readTensor(path);
  return feed;
}

async function save(outputs: Outputs, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, { type, data, dims }] of Object.entries(outputs)) {
    // Names of values may hold slashes.
    const file = join(folder, `${name.replace(/[^\w.-]/g, '_')}.npy`);
    await writeFile(file, formatNpy(new Tensor(type as DType, data as Float32Array, dims)));
  }
}

async function time(session: InferenceSession, feed: Feed, runs: number, signal: AbortSignal) {
  const [timing] = await interleave([{ name: 'q8', run: () => session.run(feed, { signal }) }], 0, runs);
  return timing;
}

function summarize(outputs: Outputs) {
  return Object.entries(outputs).map(([name, { type, dims, data }]) => {
    const elements = data as ArrayLike<unknown>;
    const first = Array.from({ length: Math.min(SHOWN, elements.length) }, (_, i) => shorten(elements[i]));
    return { name, type, dims, first };
  });
}

function shorten(value: unknown): string {
  return typeof value === 'number' && !Number.isInteger(value) ? value.toPrecision(6) : String(value);
}
