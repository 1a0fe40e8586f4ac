/**
 * Weights of few bits with a scale, and perhaps a zero point, for each block of elements: how the parameters of a block are
 * chosen. Codes are unsigned here: value = (code - zeroPoint) * scale with codes from 0 to 2^bits - 1.
 */
import { roundHalfEven } from '../ops/families/quantization';

const { fround, abs, floor, max: larger, min: smaller, sqrt } = Math;

/**
 * How parameters of a block are chosen.
 * - rtn: from the smallest and the largest element, each element rounded to nearest; the numbers of ONNX Runtime's tool.
 * - kquant: scale and offset by weighted least squares, best of twenty starts, as llama.cpp does for its K quants.
 * - hqq: zero points that are real numbers, which minimize a norm below 1 of the error (half-quadratic quantization).
 */
export type BlockAlgorithm = 'rtn' | 'kquant' | 'hqq';

/** Elements that share a scale where nothing else is asked for. */
export const DEFAULT_BLOCK_SIZE = 32;

export interface BlockOptions {
  bits: number;
  /** The zero point is 2^(bits - 1). */
  symmetric: boolean;
  algorithm: BlockAlgorithm;
}

/** A matrix as blocks along its columns: row r holds what shares blocks. */
export interface BlockedMatrix {
  rows: number;
  /** Elements of a row, blocks of a row. */
  columns: number;
  blocks: number;
  blockSize: number;
  /** [rows, columns]. */
  codes: Uint8Array;
  /** [rows, blocks]. */
  scales: Float32Array;
  /** [rows, blocks]: codes, or real numbers from hqq; null when symmetric. */
  zeroPoints: Uint8Array | Float32Array | null;
}

/** Quantizes data [rows, columns], whose rows are cut into blocks of `blockSize`; the last one may be shorter. */
export function quantizeBlocks(
  data: Float32Array,
  rows: number,
  columns: number,
  blockSize: number,
  options: BlockOptions,
): BlockedMatrix {
  const blocks = Math.ceil(columns / blockSize);
  const codes = new Uint8Array(rows * columns);
  const scales = new Float32Array(rows * blocks);
  const zeros = new Uint8Array(rows * blocks);
  const result: BlockedMatrix = { rows, columns, blocks, blockSize, codes, scales, zeroPoints: zeros };
  if (options.algorithm === 'hqq')
    return halfQuadratic(data, { ...result, zeroPoints: new Float32Array(rows * blocks) }, options.bits);
  const choose = options.algorithm === 'kquant' ? leastSquares : roundToNearest;
  for (let r = 0; r < rows; r++) {
    for (let b = 0; b < blocks; b++) {
      const from = r * columns + b * blockSize;
      const to = smaller(from + blockSize, (r + 1) * columns);
      const { scale, zeroPoint } = choose(data.subarray(from, to), options, codes.subarray(from, to));
      scales[r * blocks + b] = scale;
      zeros[r * blocks + b] = zeroPoint;
    }
  }
  return options.symmetric ? { ...result, zeroPoints: null } : result;
}

interface BlockParameters {
  scale: number;
  zeroPoint: number;
}

/** Writes codes. float32 throughout, multiplication by the reciprocal of the scale, halves away from zero. */
function roundToNearest(x: Float32Array, { bits, symmetric }: BlockOptions, codes: Uint8Array): BlockParameters {
  const top = 2 ** bits - 1;
  const middle = 2 ** (bits - 1);
  let [low, high] = [x[0], x[0]];
  for (const v of x) {
    low = smaller(low, v);
    high = larger(high, v);
  }
  let scale: number;
  let zeroPoint = middle;
  if (symmetric) {
    // The element of largest magnitude gets code 0 exactly, whatever its sign.
    scale = fround((abs(high) > abs(low) ? high : low) / -middle);
  } else {
    low = smaller(low, 0);
    high = larger(high, 0);
    scale = fround(fround(high - low) / top);
    const zero = scale === 0 ? low : fround(0 - fround(low / scale));
    zeroPoint = larger(0, smaller(top, roundHalfAway(zero)));
  }
  const reciprocal = scale === 0 ? 0 : fround(1 / scale);
  for (let i = 0; i < x.length; i++) {
    codes[i] = larger(0, smaller(top, roundHalfAway(fround(fround(x[i] * reciprocal) + zeroPoint))));
  }
  return { scale, zeroPoint };
}

/** roundHalfEven() for magnitudes below 2^51, where a sum with 1.5 * 2^52 leaves no room for fractions. */
function roundedSmall(v: number): number {
  return v + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;
}

function roundHalfAway(v: number): number {
  return Math.sign(v) * Math.floor(abs(v) + 0.5);
}

/** Starts of the search differ by a tenth of a code in the width of the range. */
const STARTS = 20;
const START_STEP = 0.1;

/** Minimizes the sum of w (scale * code + offset - x)^2, w = |x| + the block's root mean square. */
function leastSquares(x: Float32Array, { bits }: BlockOptions, codes: Uint8Array): BlockParameters {
  const top = 2 ** bits - 1;
  let [low, high, squares] = [x[0], x[0], 0];
  for (let i = 0; i < x.length; i++) {
    low = smaller(low, x[i]);
    high = larger(high, x[i]);
    squares += x[i] * x[i];
  }
  const mean = sqrt(squares / x.length);
  const width = high - low;
  let best = { scale: width === 0 ? 1 : width / top, offset: low };
  let error = Number.POSITIVE_INFINITY;
  // The first attempt is the full range as it is; those after it fit a line through the codes of another width.
  for (let start = -1; start < STARTS && (width > 0 || start < 0); start++) {
    const inverse = start < 0 ? 1 / best.scale : (top - 1 + START_STEP * start) / width;
    let [sumW, sumX, sumL, sumL2, sumXL] = [0, 0, 0, 0, 0];
    for (let i = 0; i < x.length; i++) {
      const code = larger(0, smaller(top, roundedSmall(inverse * (x[i] - low))));
      codes[i] = code;
      const w = mean + abs(x[i]);
      sumW += w;
      sumX += w * x[i];
      sumL += w * code;
      sumL2 += w * code * code;
      sumXL += w * code * x[i];
    }
    let { scale, offset } = best;
    if (start >= 0) {
      const determinant = sumW * sumL2 - sumL * sumL;
      if (!(determinant > 0)) continue;
      scale = (sumW * sumXL - sumX * sumL) / determinant;
      offset = (sumL2 * sumX - sumL * sumXL) / determinant;
    }
    let candidate = 0;
    for (let i = 0; i < x.length; i++) {
      const difference = scale * codes[i] + offset - x[i];
      candidate += (mean + abs(x[i])) * (difference * difference);
    }
    if (!(scale > 0) || !(candidate < error)) continue;
    error = candidate;
    best = { scale, offset };
  }
  const scale = fround(best.scale);
  const zeroPoint = larger(0, smaller(top, roundedSmall(-best.offset / best.scale)));
  for (let i = 0; i < x.length; i++) codes[i] = larger(0, smaller(top, roundedSmall(x[i] / scale + zeroPoint)));
  return { scale, zeroPoint };
}

/** The norm, its first weight, the growth of that, and the number of rounds of half-quadratic quantization. */
const HQQ = { norm: 0.7, beta: 10, growth: 1.01, rounds: 20 };

/** Alternates between codes and zero points until the mean error of the matrix stops falling. */
function halfQuadratic(data: Float32Array, matrix: BlockedMatrix, bits: number): BlockedMatrix {
  const { rows, columns, blocks, blockSize, codes, scales } = matrix;
  const zeros = matrix.zeroPoints as Float32Array;
  const top = 2 ** bits - 1;
  // Where blocks begin, and behind the last one.
  const starts = new Int32Array(rows * blocks + 1);
  for (let at = 0; at < rows * blocks; at++) starts[at] = floor(at / blocks) * columns + (at % blocks) * blockSize;
  starts[rows * blocks] = rows * columns;
  // Codes are round(x * inverse + zero).
  const inverses = new Float64Array(rows * blocks);
  for (let at = 0; at < zeros.length; at++) {
    let [low, high] = [data[starts[at]], data[starts[at]]];
    for (let i = starts[at]; i < starts[at + 1]; i++) {
      low = smaller(low, data[i]);
      high = larger(high, data[i]);
    }
    inverses[at] = high === low ? 1 : smaller(top / (high - low), 2e4);
    zeros[at] = roundHalfEven(-low * inverses[at]);
    scales[at] = 1 / inverses[at];
  }
  let best = Number.POSITIVE_INFINITY;
  const kept = zeros.slice();
  let beta = HQQ.beta;
  for (let round = 0; round < HQQ.rounds; round++) {
    let error = 0;
    // Powers take most of the time; errors below this, which are most, shrink to zero without one.
    const vanishing = 0.99 * beta ** (-1 / (2 - HQQ.norm));
    const next = new Float32Array(zeros.length);
    for (let at = 0; at < zeros.length; at++) {
      const inverse = inverses[at];
      const zero = zeros[at];
      let sum = 0;
      for (let i = starts[at]; i < starts[at + 1]; i++) {
        const code = larger(0, smaller(top, roundedSmall(data[i] * inverse + zero)));
        const difference = data[i] - (code - zero) / inverse;
        const size = abs(difference);
        error += size;
        const shrunk = size < vanishing ? 0 : larger(0, size - (size + 1e-8) ** (HQQ.norm - 1) / beta);
        sum += code - (data[i] - (difference < 0 ? -shrunk : shrunk)) * inverse;
      }
      next[at] = sum / (starts[at + 1] - starts[at]);
    }
    if (!(error < best)) break;
    best = error;
    kept.set(zeros);
    beta *= HQQ.growth;
    zeros.set(next);
  }
  zeros.set(kept);
  for (let at = 0; at < zeros.length; at++) {
    for (let i = starts[at]; i < starts[at + 1]; i++) {
      codes[i] = larger(0, smaller(top, roundedSmall(data[i] * inverses[at] + zeros[at])));
    }
  }
  return matrix;
}
