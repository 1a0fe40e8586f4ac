/**
 * How often which values occur, in constant memory. Bins have equal width and meet at zero. Whenever a value falls outside,
 * the width doubles and bins merge in pairs. The width thus follows from the largest magnitude alone, and the counts depend on
 * neither the order of values nor the shapes of the tensors that they came in. Where the largest magnitude is known beforehand,
 * bins divide it exactly.
 */
import { Q8Error } from '../../errors';
import type { Range } from '../scale';
import { finiteExtremes, type Observer } from './observer';

export class Histogram {
  /** Bins on each side of zero. */
  readonly half: number;
  /** `counts[half + i]` values lie in [i, i + 1) * width. Zeros are not among them. */
  readonly counts: Float64Array;
  /** All magnitudes are below half * width: the given bound, or a power of two that grows. */
  #bound = 0;
  /** The largest magnitude there can be, when it is known. */
  readonly #given: number | undefined;
  /** How many values were exactly zero. Relu makes many, and every scale represents them exactly. */
  zeros = 0;
  /** How many values were not zero. */
  nonZeros = 0;
  sawNonFinite = false;
  #min = Number.POSITIVE_INFINITY;
  #max = Number.NEGATIVE_INFINITY;

  /**
   * @param bins the least number of bins that cover the largest magnitude; at most twice as many do. The counts take
   * 32 * bins bytes. With a bound, `bins` bins cover it, in half the memory.
   * @param bound the largest magnitude there can be.
   */
  constructor(bins: number, bound?: number) {
    this.half = bound === undefined ? 2 * bins : bins;
    this.counts = new Float64Array(2 * this.half);
    this.#given = bound;
    // The bound itself falls into the last bin.
    if (bound !== undefined) this.#bound = bound * (1 + 2 ** -40);
  }

  /** Width of a bin; 0 before the first value that is not zero. */
  get width(): number {
    return this.#bound / this.half;
  }

  /** Extremes of all values, zeros included; 0 without values. */
  get min(): number {
    return this.nonZeros === 0 ? 0 : this.zeros > 0 ? Math.min(this.#min, 0) : this.#min;
  }

  get max(): number {
    return this.nonZeros === 0 ? 0 : this.zeros > 0 ? Math.max(this.#max, 0) : this.#max;
  }

  /** Counts the finite elements of `data`. */
  add(data: Float32Array): void {
    if (data.length === 0) return;
    const { min, max, allFinite } = finiteExtremes(data);
    this.sawNonFinite ||= !allFinite;
    const values = allFinite ? data : data.filter(Number.isFinite);
    const magnitude = Math.max(-min, max);
    if (magnitude > 0 && magnitude >= this.#bound) this.#growFor(magnitude);
    // Scaling by a power of two is exact, so a bin holds what its edges say.
    const { counts, half } = this;
    const inverse = 1 / this.#bound;
    let zeros = 0;
    if (magnitude > 0) {
      // Behind Relu nobody can foresee which values are zero: their bits are counted without a branch.
      const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
      for (let i = 0; i < values.length; i++) {
        const magnitudeBits = bits[i] << 1;
        zeros += 1 - ((magnitudeBits | -magnitudeBits) >>> 31);
        counts[half + Math.floor(values[i] * inverse * half)]++;
      }
      counts[half] -= zeros;
    } else zeros = values.length;
    const nonZeros = values.length - zeros;
    if (nonZeros > 0) {
      this.#min = Math.min(this.#min, min);
      this.#max = Math.max(this.#max, max);
    }
    this.zeros += zeros;
    this.nonZeros += nonZeros;
  }

  /** The histogram of |x|. */
  magnitudes(): Histogram {
    const folded = this.#given === undefined ? new Histogram(this.half / 2) : new Histogram(this.half, this.#given);
    for (let i = 0; i < this.half; i++) {
      folded.counts[this.half + i] = this.counts[this.half + i] + this.counts[this.half - 1 - i];
    }
    folded.#bound = this.#bound;
    folded.zeros = this.zeros;
    folded.nonZeros = this.nonZeros;
    folded.#min = 0;
    folded.#max = Math.max(-this.min, this.max);
    return folded;
  }

  /**
   * The value below which a share (0 to 1) of all values lies. Linear between the edges of a bin, so at most a bin's width
   * from the exact quantile; the shares 0 and 1 give the exact extremes.
   */
  quantile(share: number): number {
    const { counts, half, min, max, width } = this;
    let rest = share * (this.zeros + this.nonZeros);
    for (let i = 0; i < counts.length; i++) {
      if (i === half) {
        if (this.zeros > 0 && rest <= this.zeros) return 0;
        rest -= this.zeros;
      }
      const count = counts[i];
      if (count > 0 && rest <= count) {
        const low = Math.max((i - half) * width, min);
        const high = Math.min((i + 1 - half) * width, max);
        return low + Math.max(0, rest / count) * (high - low);
      }
      rest -= count;
    }
    return max;
  }

  #growFor(magnitude: number): void {
    if (this.#given !== undefined) {
      throw new Q8Error(
        'ERR_Q8_INVALID_ARGUMENT',
        `Expected the same samples in the second pass of calibration, but a value of ${magnitude} is beyond the ${this.#given} of the first.`,
      );
    }
    let exponent = Math.ceil(Math.log2(magnitude));
    while (2 ** exponent <= magnitude) exponent++;
    const { counts, half } = this;
    if (this.nonZeros > 0) {
      const merged = 2 ** exponent / this.#bound;
      const old = counts.slice();
      counts.fill(0);
      for (let i = 0; i < old.length; i++) counts[half + Math.floor((i - half) / merged)] += old[i];
    }
    this.#bound = 2 ** exponent;
  }
}

/** Keeps a histogram of a tensor, from which `choose` takes the range at the end. */
export class HistogramObserver implements Observer {
  readonly #histogram: Histogram;
  readonly #choose: (histogram: Histogram) => Range;
  hasSeen = false;

  /** @param bound the largest magnitude, when it is known. */
  constructor(bins: number, choose: (histogram: Histogram) => Range, bound?: number) {
    this.#histogram = new Histogram(bins, bound);
    this.#choose = choose;
  }

  observe(data: Float32Array): void {
    this.hasSeen = true;
    this.#histogram.add(data);
  }

  get sawNonFinite(): boolean {
    return this.#histogram.sawNonFinite;
  }

  get range(): Range {
    const { min, max } = this.#choose(this.#histogram);
    return { min: Math.fround(min), max: Math.fround(max) };
  }
}
