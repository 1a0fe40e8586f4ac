/** The options by which a command gets data for a model, the same for all commands that need some. */
import { type Command, Option } from 'commander';
import { randomSamples, readSamples, type SampleOptions, type SampleSource } from '../readers/samples';
import { collectShapes, parseCount, parseNumbers, parsePositiveInteger, parseSize, UsageError } from './context';

export interface DataFlags extends Pick<SampleOptions, 'limit' | 'mean' | 'std' | 'fit' | 'layout' | 'color'> {
  random?: number;
  seed?: number;
  shape?: Map<string, number[]>;
  size?: [number, number];
}

/** What the option that names the data says of itself. */
export const DATA_HELP = '.npy, .npz, IDX, .jsonl or image file, or a folder of these or of ONNX test data (.pb)';

/** Adds them to a command. The option that names the data itself is the command's own. */
export function addDataOptions(command: Command): Command {
  return command
    .option('--random <count>', 'use random numbers: so many samples', parsePositiveInteger)
    .option('--seed <number>', 'seed of the random numbers', parseCount, 1)
    .option('--limit <count>', 'use at most so many samples', parsePositiveInteger)
    .option(
      '--mean <numbers>',
      'bytes become float32 as (x / 255 - mean) / std; one number or one per channel',
      parseNumbers,
    )
    .option('--std <numbers>', 'see --mean', parseNumbers)
    .option('--size <HxW>', 'images: height and width, where the model leaves them open', parseSize)
    .addOption(
      new Option('--fit <how>', 'images: cut, add bars or stretch to fit').choices(['cover', 'contain', 'fill']),
    )
    .addOption(new Option('--layout <axes>', 'images: order of the axes of the input').choices(['nchw', 'nhwc']))
    .addOption(new Option('--color <order>', 'images: order of the colours (default rgb)').choices(['rgb', 'bgr']))
    .option('--shape <input=1x3x64x64>', 'shape of an input for random numbers; repeatable', collectShapes);
}

/** Flags that {@link addDataOptions} adds. */
export const DATA_FLAGS = [
  'random',
  'seed',
  'limit',
  'mean',
  'std',
  'size',
  'fit',
  'layout',
  'color',
  'shape',
] as const;

/** Where the samples come from. `path` is what the command's own option names. @throws UsageError without any source. */
export function samplesOf(path: string | undefined, flags: DataFlags, option: string): SampleSource {
  const { random, seed, shape, limit, mean, std, size, fit, layout, color } = flags;
  if (path !== undefined && random !== undefined) throw new UsageError(`${option} and --random exclude each other.`);
  if (path !== undefined) return readSamples(path, { limit, mean, std, size, fit, layout, color });
  if (random === undefined) throw new UsageError(`Give the data with ${option}, or use --random.`);
  return randomSamples(random, { seed, shapes: Object.fromEntries(shape ?? []) });
}
