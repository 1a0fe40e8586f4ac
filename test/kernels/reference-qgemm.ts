/** The definition of qgemm in plain TypeScript: what every kernel must reproduce bit for bit. And a seeded generator. */
import type { Codes } from '../../binding';

export interface ReferenceProblem {
  m: number;
  n: number;
  k: number;
  a: Codes;
  lda: number;
  b: Codes;
  ldb: number;
  transposeB: boolean;
  aZeroPoint: number;
  /** Of column j. */
  bZeroPoint(j: number): number;
}

/** int32 accumulators, modulo 2^32. */
export function referenceAccumulators(p: ReferenceProblem): Int32Array {
  const c = new Int32Array(p.m * p.n);
  for (let i = 0; i < p.m; i++) {
    for (let j = 0; j < p.n; j++) {
      const zero = p.bZeroPoint(j);
      let sum = 0;
      for (let x = 0; x < p.k; x++) {
        const b = p.transposeB ? p.b[j * p.ldb + x] : p.b[x * p.ldb + j];
        sum = (sum + Math.imul(p.a[i * p.lda + x] - p.aZeroPoint, b - zero)) | 0;
      }
      c[i * p.n + j] = sum;
    }
  }
  return c;
}

export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** One code: float32 product, clamp, round half to even, zero point. */
export function referenceRequantize(acc: number, scale: number, zeroPoint: number, min: number, max: number): number {
  const product = Math.fround(Math.fround(acc) * Math.fround(scale));
  return roundHalfEven(Math.min(Math.max(product, min - zeroPoint), max - zeroPoint)) + zeroPoint;
}

/** One float32: the sum of two floats is exact enough in float64 for a single rounding. */
export function referenceDequantize(acc: number, scale: number, bias: number | undefined): number {
  const product = Math.fround(Math.fround(acc) * Math.fround(scale));
  return bias === undefined ? product : Math.fround(product + bias);
}

/** Mulberry32: uniform integers from a seed, so that a failure can be repeated. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** 0 <= integer < limit. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * limit);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }
}
