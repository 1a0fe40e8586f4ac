/** Streaming range of a tensor over all samples: two numbers, whatever the amount of data. */
import { type Range, rangeOf } from '../scale';

export class MinMaxObserver {
  #min = Number.POSITIVE_INFINITY;
  #max = Number.NEGATIVE_INFINITY;
  #nonFinite = false;

  /** Takes in one sample. NaN and infinities are left out of the range and remembered. */
  observe(data: Float32Array): void {
    if (data.length === 0) return;
    const { min, max } = rangeOf(data);
    if (min < this.#min) this.#min = min;
    if (max > this.#max) this.#max = max;
    this.#nonFinite ||= !allFinite(data);
  }

  /** Whether some value was NaN or infinite. */
  get sawNonFinite(): boolean {
    return this.#nonFinite;
  }

  /** The range seen so far; [0, 0] before the first value. */
  get range(): Range {
    return this.#min <= this.#max ? { min: this.#min, max: this.#max } : { min: 0, max: 0 };
  }
}

/** Multiplying by zero keeps NaN and turns infinities into NaN, which a sum then carries to its end. */
export function allFinite(data: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i] * 0;
  return sum === 0;
}
