/**
 * Which range to cover with codes, given a histogram. Rare large values make a scale coarse for all others; clipping them
 * trades a large error of few values for a small one of many. Each method draws that line in its own way.
 */
import type { Range } from '../scale';
import type { Histogram } from './histogram';

/**
 * The range that holds `percentile` percent of all values, half of the rest being cut at either end. Symmetric: the
 * percentile of magnitudes.
 */
export function percentileRange(histogram: Histogram, percentile: number, symmetric: boolean): Range {
  if (symmetric) {
    const bound = histogram.magnitudes().quantile(percentile / 100);
    return within(histogram, bound);
  }
  const cut = (100 - percentile) / 200;
  return { min: histogram.quantile(cut), max: histogram.quantile(1 - cut) };
}

/** Fewer bins than this say nothing about a distribution. */
const FIRST_CANDIDATE = 128;

/**
 * The bound t on |x| that loses the least information, as TensorRT's calibrator defines it. For each t at the end of a
 * bin from 128 up: P = the bins below t, the last of which also takes all that lies beyond; Q = the same bins without
 * that, merged into `levels` groups of equal width, each spread evenly over its bins that are not empty. The t with the
 * least KL(P || Q) = sum p log(p / q) wins, the first of several. The bin at zero counts as much as the one beside it.
 *
 * With c log c summed up beforehand, a candidate costs one step per group instead of one per bin.
 */
export function entropyRange(histogram: Histogram, symmetric: boolean): Range {
  const magnitudes = histogram.magnitudes();
  const { half, width, max: bound } = magnitudes;
  if (bound === 0) return { min: 0, max: 0 };
  const bins = Math.min(Math.floor(bound / width) + 1, half);
  const counts = magnitudes.counts.slice(half, half + bins);
  counts[0] = counts[1];
  const sums = new Float64Array(bins + 1);
  const occupied = new Float64Array(bins + 1);
  const countLogs = new Float64Array(bins + 1);
  counts.forEach((count, i) => {
    sums[i + 1] = sums[i] + count;
    occupied[i + 1] = occupied[i] + (count > 0 ? 1 : 0);
    countLogs[i + 1] = countLogs[i] + xLogX(count);
  });
  // Codes for magnitudes: half of all where both signs occur.
  const levels = symmetric || histogram.min < 0 ? 128 : 256;
  let best = Number.POSITIVE_INFINITY;
  let bestEnd = bins;
  for (let end = Math.max(FIRST_CANDIDATE, levels); end <= bins; end++) {
    const divergence = divergenceOf(end);
    if (divergence < best) {
      best = divergence;
      bestEnd = end;
    }
  }
  return within(histogram, Math.min(bound, bestEnd * width));

  function divergenceOf(end: number): number {
    const inside = sums[end];
    const all = sums[bins];
    const last = counts[end - 1];
    // Q is zero there but P is not: infinitely far apart.
    if (inside === 0 || (last === 0 && all > inside)) return Number.POSITIVE_INFINITY;
    // sum c log c over P's bins, less sum c log q; the totals are divided out at the end.
    let sum = countLogs[end - 1] + xLogX(last + all - inside);
    for (let level = 0, from = 0; level < levels; level++) {
      const to = Math.floor(((level + 1) * end) / levels);
      const mass = sums[to] - sums[from];
      if (mass > 0) {
        const spread = Math.log(mass / (occupied[to] - occupied[from]));
        sum -= (mass + (to === end ? all - inside : 0)) * spread;
      }
      from = to;
    }
    return sum / all + Math.log(inside / all);
  }
}

function xLogX(x: number): number {
  return x > 0 ? x * Math.log(x) : 0;
}

/** Candidates for each end of a range: the extreme times 2^(-k / 16), k = 0 to 95. */
const CANDIDATES = 96;
const CANDIDATES_PER_OCTAVE = 16;
const STEPS = 255;

/**
 * The range with the least mean squared error, of rounding inside and of saturation outside: first the best common
 * fraction of both extremes, then the best upper end for it, then the best lower end for that. Values are taken as evenly
 * spread within their bin, and the error is integrated, not sampled: it stays right where bins are wider than steps.
 */
export function mseRange(histogram: Histogram, symmetric: boolean): Range {
  if (symmetric) {
    const magnitudes = histogram.magnitudes();
    const { max } = magnitudes;
    const error = errorOf(magnitudes);
    return within(histogram, max * leastFraction((f) => error(-f * max, f * max)));
  }
  const error = errorOf(histogram);
  let low = Math.min(histogram.min, 0);
  let high = Math.max(histogram.max, 0);
  const common = leastFraction((f) => error(f * low, f * high));
  const twoSided = low < 0 && high > 0;
  const [fullLow, fullHigh] = [low, high];
  low *= common;
  high *= common;
  if (twoSided) {
    high = fullHigh * leastFraction((f) => error(low, f * fullHigh));
    low = fullLow * leastFraction((f) => error(f * fullLow, high));
  }
  return { min: Math.max(histogram.min, low), max: Math.min(histogram.max, high) };
}

/** Squared error of all values when codes cover [low, high], which holds 0. */
function errorOf({ counts, half, width }: Histogram): (low: number, high: number) => number {
  const bins: number[] = [];
  counts.forEach((count, i) => {
    if (count > 0) bins.push(i);
  });
  return (low, high) => {
    const step = (high - low) / STEPS;
    if (!(step > 0)) return Number.POSITIVE_INFINITY;
    const integral = (x: number): number => {
      const inside = Math.min(Math.max(x, low), high);
      const beyond = x - inside;
      return roundingIntegral(inside, step) + (beyond * beyond * beyond) / 3;
    };
    let sum = 0;
    let edge = Number.NaN;
    let atEdge = 0;
    for (const i of bins) {
      const from = (i - half) * width;
      const atFrom = edge === i ? atEdge : integral(from);
      edge = i + 1;
      atEdge = integral(from + width);
      sum += counts[i] * (atEdge - atFrom);
    }
    return sum / width;
  };
}

/** Integral of (t - rounded t)^2 over t from 0 to x, where rounding is to multiples of `step`. */
function roundingIntegral(x: number, step: number): number {
  const steps = x / step;
  const whole = Math.round(steps);
  const rest = steps - whole;
  return (whole / 12 + (rest * rest * rest) / 3) * step * step * step;
}

function leastFraction(errorAt: (fraction: number) => number): number {
  let best = 1;
  let least = Number.POSITIVE_INFINITY;
  for (let k = 0; k < CANDIDATES; k++) {
    const fraction = 2 ** (-k / CANDIDATES_PER_OCTAVE);
    const error = errorAt(fraction);
    if (error < least) {
      least = error;
      best = fraction;
    }
  }
  return best;
}

/** [-bound, bound], no wider than the values seen. */
function within({ min, max }: Histogram, bound: number): Range {
  return { min: Math.max(min, -bound), max: Math.min(max, bound) };
}

/** Kurtosis half-way between that of a normal distribution (3) and that of a Laplace distribution (6). */
const HEAVY_TAILS = 4.5;

/**
 * The range with the least error expected of a distribution of which only the moments are used: normal, or Laplace when its
 * tails are heavy. mean +- t * deviation for both signs; [0, t * deviation] for values of one sign, which are taken for
 * half of a distribution about 0. t minimizes saturation plus rounding (Banner et al., ACIQ, 2018): 3.92 standard deviations or
 * 9.89 mean deviations for both signs. Zeros, which have a code in any case, say nothing about the others.
 */
export function distributionRange(histogram: Histogram, symmetric: boolean): Range {
  const { counts, half, width, nonZeros, min, max } = histogram;
  if (nonZeros === 0) return { min: 0, max: 0 };
  const average = (of: (value: number) => number): number => {
    let sum = 0;
    counts.forEach((count, i) => {
      if (count > 0) sum += count * of((i + 0.5 - half) * width);
    });
    return sum / nonZeros;
  };
  const oneSided = !symmetric && (min >= 0 || max <= 0);
  const mean = oneSided || symmetric ? 0 : average((x) => x);
  const variance = average((x) => (x - mean) ** 2);
  const isHeavy = average((x) => (x - mean) ** 4) > HEAVY_TAILS * variance ** 2;
  // Error of rounding by the square of the bound: step^2 / 12.
  const rounding = (oneSided ? 1 : 4) / (12 * STEPS * STEPS);
  const bound = isHeavy
    ? laplaceBound(rounding) * average((x) => Math.abs(x - mean))
    : normalBound(rounding) * Math.sqrt(variance);
  return { min: Math.max(min, Math.min(mean - bound, 0)), max: Math.min(max, Math.max(mean + bound, 0)) };
}

/** Where 2 exp(-t) + c t^2 is least: t exp(t) = 1 / c. */
function laplaceBound(c: number): number {
  return rootOf((t) => t + Math.log(t) + Math.log(c));
}

/** Where 2 * integral over x > t of (x - t)^2 p(x), plus c t^2, is least, for the density p of a normal distribution. */
function normalBound(c: number): number {
  const STEP = 1 / 64;
  const excess = (t: number): number => {
    let sum = 0;
    for (let x = t + STEP / 2; x < t + 8; x += STEP) sum += (x - t) * Math.exp((-x * x) / 2);
    return (sum * STEP) / Math.sqrt(2 * Math.PI);
  };
  return rootOf((t) => c * t - 2 * excess(t));
}

/** Of a function that grows, between 1/2 and 32. */
function rootOf(f: (t: number) => number): number {
  let [low, high] = [0.5, 32];
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (f(middle) < 0) low = middle;
    else high = middle;
  }
  return low;
}
