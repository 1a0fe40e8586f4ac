/** Ranges from the smallest and largest values of the samples: overall, or averaged over samples. */
import type { Range } from '../scale';
import { type ExtremesObserver, finiteExtremes } from './observer';

abstract class ObserverOfExtremes implements ExtremesObserver {
  sawNonFinite = false;
  hasSeen = false;

  observe(data: Float32Array): void {
    this.hasSeen = true;
    if (data.length === 0) return;
    const { allFinite, ...extremes } = finiteExtremes(data);
    this.observeExtremes(extremes);
    this.sawNonFinite ||= !allFinite;
  }

  observeExtremes(extremes: Range): void {
    this.hasSeen = true;
    this.add(extremes);
  }

  abstract readonly range: Range;
  protected abstract add(extremes: Range): void;
}

/** The smallest and largest value of all samples. */
export class MinMaxObserver extends ObserverOfExtremes {
  #min = Number.POSITIVE_INFINITY;
  #max = Number.NEGATIVE_INFINITY;

  protected add({ min, max }: Range): void {
    if (min < this.#min) this.#min = min;
    if (max > this.#max) this.#max = max;
  }

  get range(): Range {
    // Adding zero turns -0 into 0: which of the two is the extreme is for nobody to say.
    return this.#min <= this.#max ? { min: this.#min + 0, max: this.#max + 0 } : { min: 0, max: 0 };
  }
}

/**
 * Averages of the smallest and of the largest value of each sample: m_n = m_(n-1) + w (x_n - m_(n-1)) with
 * w = max(momentum, 1 / n). That is the plain mean of the first 1 / momentum samples, and an exponential one from there.
 */
export class MovingAverageObserver extends ObserverOfExtremes {
  readonly #momentum: number;
  #samples = 0;
  #min = 0;
  #max = 0;

  constructor(momentum: number) {
    super();
    this.#momentum = momentum;
  }

  protected add({ min, max }: Range): void {
    const weight = Math.max(this.#momentum, 1 / ++this.#samples);
    this.#min += weight * (min - this.#min);
    this.#max += weight * (max - this.#max);
  }

  get range(): Range {
    return { min: Math.fround(this.#min) + 0, max: Math.fround(this.#max) + 0 };
  }
}
