/** Interleaved rounds: contenders take turns within one process, so that they share the machine's weather. */
import { Bench } from 'tinybench';

export interface Contender {
  run(): unknown;
  /** For functions that return promises; measuring them as such costs the others nothing. */
  async?: boolean;
}

const ROUNDS = 7;

/**
 * Milliseconds of every run of each contender, by round. Every contender gets about `milliseconds` in all, and at least 3
 * runs a round.
 */
export async function rounds(
  contenders: readonly Contender[],
  milliseconds: number,
  count = ROUNDS,
): Promise<number[][][]> {
  const samples = contenders.map((): number[][] => []);
  for (let round = 0; round < count; round++) {
    const bench = new Bench({
      time: milliseconds / count,
      iterations: 3,
      warmup: round === 0,
      warmupTime: milliseconds / count,
      warmupIterations: 2,
      throws: true,
      retainSamples: true,
    });
    for (const [i, { run, async = false }] of contenders.entries()) bench.add(String(i), run, { async });
    const tasks = await bench.run();
    for (const [i, { result }] of tasks.entries()) {
      if (result.state !== 'completed') throw new Error(`contender ${i} ended as ${result.state}`);
      samples[i].push([...result.latency.samples!]);
    }
  }
  return samples;
}

/** Median milliseconds of each contender: the median over rounds of the median of each round. */
export async function medians(contenders: readonly Contender[], milliseconds: number): Promise<number[]> {
  const samples = await rounds(contenders, milliseconds);
  return samples.map((of) =>
    percentile(
      of.map((round) => percentile(round, 50)),
      50,
    ),
  );
}

/** The value below which `percent` of the numbers lie: the nearest one. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}
