/** Timing: medians of interleaved runs, so that contenders share the weather. */

export interface Contender {
  name: string;
  run(): unknown;
}

export interface Timing {
  name: string;
  /** Milliseconds per run. */
  median: number;
  minimum: number;
  runs: number;
}

/**
 * Times the contenders in turns until `budgetMs` have passed, at least `minRuns` runs each, after two rounds of warm-up.
 * run() may return a promise.
 */
export async function interleave(contenders: readonly Contender[], budgetMs: number, minRuns = 5): Promise<Timing[]> {
  const samples = contenders.map((): number[] => []);
  const start = performance.now();
  for (let round = -2; round < minRuns || performance.now() - start < budgetMs; round++) {
    for (const [i, contender] of contenders.entries()) {
      const before = performance.now();
      await contender.run();
      if (round >= 0) samples[i].push(performance.now() - before);
    }
  }
  return contenders.map(({ name }, i) => {
    samples[i].sort((a, b) => a - b);
    return { name, median: median(samples[i]), minimum: samples[i][0], runs: samples[i].length };
  });
}

/**
 * Median milliseconds of each contender. Each has some turns of many runs, the first of which is not counted, so that it finds
 * its data in the caches as in a loop of its own.
 */
export async function mediansOfTurns(
  contenders: readonly Omit<Contender, 'name'>[],
  budgetMs: number,
  turns = 5,
): Promise<number[]> {
  const samples = contenders.map((): number[] => []);
  for (let turn = 0; turn < turns; turn++) {
    for (const [i, contender] of contenders.entries()) {
      await contender.run();
      const start = performance.now();
      let before = start;
      do {
        const result = contender.run();
        if (result instanceof Promise) await result;
        const now = performance.now();
        samples[i].push(now - before);
        before = now;
      } while (before - start < budgetMs / turns);
    }
  }
  return samples.map((of) => median(of.sort((a, b) => a - b)));
}

function median(sorted: readonly number[]): number {
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
