/** Medians of interleaved rounds: contenders take turns within one process, so that they share the machine's weather. */
import { Bench } from 'tinybench';

export interface Contender {
  run(): unknown;
  /** For functions that return promises; measuring them as such costs the others nothing. */
  async?: boolean;
}

const ROUNDS = 7;

/**
 * Median milliseconds of each contender: the median over rounds of the median of each round. Every contender gets about
 * `milliseconds` in all.
 */
export async function medians(contenders: readonly Contender[], milliseconds: number): Promise<number[]> {
  const rounds = contenders.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    const bench = new Bench({
      time: milliseconds / ROUNDS,
      iterations: 3,
      warmup: round === 0,
      warmupTime: milliseconds / ROUNDS,
      warmupIterations: 2,
      throws: true,
      retainSamples: true,
    });
    for (const [i, { run, async = false }] of contenders.entries()) bench.add(String(i), run, { async });
    const tasks = await bench.run();
    for (const [i, { result }] of tasks.entries()) {
      if (result.state !== 'completed') throw new Error(`contender ${i} ended as ${result.state}`);
      rounds[i].push(result.latency.p50 ?? result.latency.mean);
    }
  }
  return rounds.map((values) => values.sort((a, b) => a - b)[ROUNDS >> 1]);
}
