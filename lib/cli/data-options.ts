/** The options by which a command gets data for a model, the same for all commands that need some. */
import type { Command } from 'commander';
import { collectShapes, parseCount, parseNumbers, parsePositiveInteger, UsageError } from './context';
import { type Feed, type InputSpec, randomFeeds, readFeeds } from './readers/samples';

export interface DataFlags {
  random?: number;
  seed?: number;
  limit?: number;
  mean?: number[];
  std?: number[];
  shape?: Map<string, number[]>;
}

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
    .option('--shape <input=1x3x64x64>', 'shape of an input for random numbers; repeatable', collectShapes);
}

/** Reads or makes the samples. `path` is what the command's own option names. @throws UsageError without any source. */
export async function loadFeeds(
  path: string | undefined,
  inputs: readonly InputSpec[],
  flags: DataFlags,
  option: string,
): Promise<Feed[]> {
  const { random, seed, limit, mean, std, shape } = flags;
  if (path !== undefined && random !== undefined) throw new UsageError(`${option} and --random exclude each other.`);
  if (path === undefined && random === undefined)
    throw new UsageError(`Give the data with ${option}, or use --random.`);
  if (path === undefined) return randomFeeds(inputs, random as number, shape, seed);
  const normalization = mean || std ? { mean: mean ?? [0], std: std ?? [1] } : undefined;
  return readFeeds(path, inputs, { normalization, limit });
}
