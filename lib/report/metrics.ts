/** How far apart two tensors are: the numbers by which a quantized model is judged against its float original. */
import { Q8Error } from '../errors';

type Numbers = ArrayLike<number>;

/**
 * Signal to quantization noise ratio in dB, 20 log10(|x| / |x - y|): 20 dB is 10 % error, 40 dB 1 %. Infinity when equal;
 * -Infinity when the reference is all zero and `actual` is not. Sums run in double, in index order.
 */
export function sqnr(reference: Numbers, actual: Numbers): number {
  checkLengths(reference, actual);
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < reference.length; i++) {
    const difference = reference[i] - actual[i];
    signal += reference[i] * reference[i];
    noise += difference * difference;
  }
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}

/** Cosine of the angle between two tensors, in [-1, 1]. Two zero tensors give 1, one gives 0. */
export function cosineSimilarity(reference: Numbers, actual: Numbers): number {
  checkLengths(reference, actual);
  let dot = 0;
  let a = 0;
  let b = 0;
  for (let i = 0; i < reference.length; i++) {
    dot += reference[i] * actual[i];
    a += reference[i] * reference[i];
    b += actual[i] * actual[i];
  }
  if (a === 0 || b === 0) return a === b ? 1 : 0;
  return Math.min(1, Math.max(-1, dot / (Math.sqrt(a) * Math.sqrt(b))));
}

/** Largest |reference - actual|; 0 for empty tensors, NaN when some difference is NaN. */
export function maxAbsError(reference: Numbers, actual: Numbers): number {
  checkLengths(reference, actual);
  let largest = 0;
  for (let i = 0; i < reference.length; i++) {
    const error = Math.abs(reference[i] - actual[i]);
    if (!(error <= largest)) largest = error;
    if (Number.isNaN(largest)) return largest;
  }
  return largest;
}

function checkLengths(reference: Numbers, actual: Numbers): void {
  if (reference.length === actual.length) return;
  throw new Q8Error(
    'ERR_Q8_SHAPE_MISMATCH',
    `Expected tensors of equal size but received ${reference.length} and ${actual.length} elements.`,
  );
}
