/** How far apart two tensors are: the numbers by which a quantized model is judged against its float original. */
import { Q8Error } from '../errors';

type Numbers = ArrayLike<number>;

/** The distance of a tensor from its reference. */
export interface Errors {
  /**
   * Signal to quantization noise ratio in dB, 20 log10(|x| / |x - y|): 20 dB is 10 % error, 40 dB 1 %. Infinity when equal;
   * -Infinity when the reference is all zero and the other is not.
   */
  sqnr: number;
  /** Cosine of the angle between the two, in [-1, 1]. Two zero tensors give 1, one gives 0. */
  cosine: number;
  /** Largest |reference - actual|; 0 for empty tensors, NaN when some difference is NaN. */
  maxAbsError: number;
}

/** Sums up the distance of many pairs of tensors in constant memory, as if each side were one long tensor. */
export class ErrorSums implements Errors {
  #signal = 0;
  #noise = 0;
  #dot = 0;
  #actual = 0;
  #largest = 0;

  /** Sums run in double, in index order. @throws ERR_Q8_SHAPE_MISMATCH for different sizes. */
  add(reference: Numbers, actual: Numbers): void {
    if (reference.length !== actual.length) {
      throw new Q8Error(
        'ERR_Q8_SHAPE_MISMATCH',
        `Expected tensors of equal size but received ${reference.length} and ${actual.length} elements.`,
      );
    }
    let [signal, noise, dot, actualSquares, largest] = [0, 0, 0, 0, 0];
    for (let i = 0; i < reference.length; i++) {
      const x = reference[i];
      const y = actual[i];
      const difference = x - y;
      signal += x * x;
      noise += difference * difference;
      dot += x * y;
      actualSquares += y * y;
      const error = Math.abs(difference);
      if (!(error <= largest) && !Number.isNaN(largest)) largest = error;
    }
    this.#signal += signal;
    this.#noise += noise;
    this.#dot += dot;
    this.#actual += actualSquares;
    if (!(largest <= this.#largest) && !Number.isNaN(this.#largest)) this.#largest = largest;
  }

  get sqnr(): number {
    return this.#noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(this.#signal / this.#noise);
  }

  get cosine(): number {
    const [a, b] = [this.#signal, this.#actual];
    if (a === 0 || b === 0) return a === b ? 1 : 0;
    return Math.min(1, Math.max(-1, this.#dot / (Math.sqrt(a) * Math.sqrt(b))));
  }

  get maxAbsError(): number {
    return this.#largest;
  }

  /** The numbers as plain data. */
  get errors(): Errors {
    const { sqnr, cosine, maxAbsError } = this;
    return { sqnr, cosine, maxAbsError };
  }
}

/** The distance of one tensor from another. @throws ERR_Q8_SHAPE_MISMATCH for different sizes. */
export function errorsOf(reference: Numbers, actual: Numbers): Errors {
  const sums = new ErrorSums();
  sums.add(reference, actual);
  return sums.errors;
}

/** The signal to noise ratio alone; see {@link Errors}. */
export function sqnr(reference: Numbers, actual: Numbers): number {
  return errorsOf(reference, actual).sqnr;
}
