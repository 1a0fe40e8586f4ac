/**
 * GPTQ (Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", 2022): rounds
 * the weights of a matrix one column after the other, and lets the columns that are not rounded yet make up for the error
 * of each. What is kept small is not the error of weights, but that of their products with the inputs that were observed:
 * for a row w, (w' - w) H (w' - w)^T with H = sum x x^T. Pure arithmetic in float64.
 */
import type { Turns } from './turns';

/** Share of the mean diagonal of H that is added to it, so that it can be inverted. */
const DAMPING = 0.01;
/**
 * In few rows inputs seem to depend on each other by chance. Products of different inputs count for less, therefore:
 * rows / (rows + size / 16) of what was summed up.
 */
const TRUST = 16;
/** Of rows whose products with themselves are summed up together. */
const ROWS = 4;

/**
 * H of the inputs of a product: sum of x x^T over rows x of `size` elements, as they stream by. Or, `isCentered`, of what
 * remains of rows without their mean, for products with a bias that can make up for errors of the mean.
 */
export class SecondMoments {
  readonly size: number;
  readonly isCentered: boolean;
  readonly #rowSum: Float64Array;
  /** The lower triangle is what counts. */
  readonly #sums: Float64Array;
  readonly #scratch: Float64Array;
  rows = 0;

  constructor(size: number, isCentered = false) {
    this.size = size;
    this.isCentered = isCentered;
    this.#rowSum = new Float64Array(size);
    this.#sums = new Float64Array(size * size);
    this.#scratch = new Float64Array(ROWS * size);
  }

  /** Takes in rows, one after the other in memory. */
  add(data: Float32Array): void {
    const { size } = this;
    const sums = this.#sums;
    const x = this.#scratch;
    for (let at = 0; at < data.length; at += ROWS * size) {
      const end = Math.min(at + ROWS * size, data.length);
      x.fill(0);
      for (let i = at; i < end; i++) x[i - at] = data[i];
      const [x1, x2, x3] = [size, 2 * size, 3 * size];
      for (let i = 0; i < size; i++) this.#rowSum[i] += x[i] + x[x1 + i] + x[x2 + i] + x[x3 + i];
      // Two rows of H at a time: what is read of x serves both. The element behind the first one's diagonal is of no use.
      for (let i = 0; i < size; i += 2) {
        const [a, b, c, d] = [x[i], x[x1 + i], x[x2 + i], x[x3 + i]];
        const isLast = i + 1 === size;
        const [e, f, g, h] = isLast ? [0, 0, 0, 0] : [x[i + 1], x[x1 + i + 1], x[x2 + i + 1], x[x3 + i + 1]];
        const row = i * size;
        const next = isLast ? row : row + size;
        const last = isLast ? i : i + 1;
        for (let j = 0; j <= last; j++) {
          const [t, u, v, w] = [x[j], x[x1 + j], x[x2 + j], x[x3 + j]];
          sums[row + j] += a * t + b * u + (c * v + d * w);
          sums[next + j] += e * t + f * u + (g * v + h * w);
        }
      }
      this.rows += (end - at) / size;
    }
  }

  /** Sum of x_i x_j; centered, less what the means make of it. */
  at(i: number, j: number): number {
    const sum = i >= j ? this.#sums[i * this.size + j] : this.#sums[j * this.size + i];
    return this.isCentered ? sum - (this.#rowSum[i] * this.#rowSum[j]) / this.rows : sum;
  }

  /** Mean of x_i. */
  mean(i: number): number {
    return this.rows === 0 ? 0 : this.#rowSum[i] / this.rows;
  }
}

/** The order in which columns are rounded, and how the error of each spreads. */
export interface Compensation {
  /** Columns by falling H[k][k]: what matters most is rounded while all others can still give way. */
  order: Int32Array;
  /**
   * Upper triangle U by rows, in that order: H^-1 = U^T U. An error e of column k adds -e U[k][j] / U[k][k] to column j > k.
   */
  spread: Float64Array;
}

/** From H of the inputs, in 2/3 size^3 multiplications. Inputs that were never other than zero leave their columns rounded to nearest. */
export async function compensationOf(moments: SecondMoments, turns: Turns): Promise<Compensation> {
  const { size } = moments;
  const diagonal = Float64Array.from({ length: size }, (_, i) => moments.at(i, i));
  const order = Int32Array.from({ length: size }, (_, i) => i).sort((a, b) => diagonal[b] - diagonal[a] || a - b);
  const mean = diagonal.reduce((a, b) => a + b, 0) / size || 1;
  for (let damping = DAMPING; ; damping *= 10) {
    const spread = await inverseFactor(moments, order, damping * mean, turns);
    if (spread) return { order, spread };
  }
}

/** The share of products of different inputs that is believed. */
export function trustIn({ rows, size }: SecondMoments): number {
  return (TRUST * rows) / (TRUST * rows + size);
}

/**
 * U with (H + damping)^-1 = U^T U. With all indices reversed it is the inverse of the lower Cholesky factor of H.
 * Undefined when rounding errors make H seem not positive definite.
 */
async function inverseFactor(
  moments: SecondMoments,
  order: Int32Array,
  damping: number,
  turns: Turns,
): Promise<Float64Array | undefined> {
  const { size } = moments;
  const last = size - 1;
  const trust = trustIn(moments);
  const factor = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    await turns.pass();
    const row = i * size;
    for (let j = 0; j <= i; j++) {
      const other = j * size;
      const sum = moments.at(order[last - i], order[last - j]) * (i === j ? 1 : trust) - dot(factor, row, other, j);
      if (j < i) factor[row + j] = sum / factor[other + j];
      else if (sum + damping > 0) factor[row + i] = Math.sqrt(sum + damping);
      else return undefined;
    }
  }
  // Row i of the inverse is made of those before it.
  const inverse = new Float64Array(size);
  const spread = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    await turns.pass();
    inverse.fill(0, 0, i);
    inverse[i] = 1;
    for (let k = 0; k < i; k++) {
      const share = factor[i * size + k];
      const known = (last - k) * size + last;
      if (share !== 0) for (let j = 0; j <= k; j++) inverse[j] -= share * spread[known - j];
    }
    const pivot = factor[i * size + i];
    const row = (last - i) * size + last;
    for (let j = 0; j <= i; j++) spread[row - j] = inverse[j] / pivot;
  }
  return spread;
}

/** Of `count` elements at two places. Four sums, since each has to wait for what was added to it before. */
function dot(x: Float64Array, a: number, b: number, count: number): number {
  let [s0, s1, s2, s3, k] = [0, 0, 0, 0, 0];
  for (; k + 3 < count; k += 4) {
    s0 += x[a + k] * x[b + k];
    s1 += x[a + k + 1] * x[b + k + 1];
    s2 += x[a + k + 2] * x[b + k + 2];
    s3 += x[a + k + 3] * x[b + k + 3];
  }
  for (; k < count; k++) s0 += x[a + k] * x[b + k];
  return s0 + s1 + (s2 + s3);
}

/** Codes of a row of weights: value = (code - zeroPoint) * scale, by column. */
export interface RowGrid {
  scale(column: number): number;
  zeroPoint(column: number): number;
  low: number;
  high: number;
}

/** Rounds one row with its errors made up for; writes the codes. */
export function roundRow(
  weights: Float32Array,
  { order, spread }: Compensation,
  { scale, zeroPoint, low, high }: RowGrid,
  codes: { [column: number]: number },
): void {
  const size = order.length;
  const rest = Float64Array.from(order, (column) => weights[column]);
  for (let k = 0; k < size; k++) {
    const column = order[k];
    const step = scale(column);
    const zero = zeroPoint(column);
    const exact = step === 0 ? zero : rest[k] / step + zero;
    const code = Math.min(high, Math.max(low, exact + 1.5 * 2 ** 52 - 1.5 * 2 ** 52));
    codes[column] = code;
    const row = k * size;
    const error = (rest[k] - (code - zero) * step) / spread[row + k];
    for (let j = k + 1; j < size; j++) rest[j] -= error * spread[row + j];
  }
}

/** (w' - w) H (w' - w)^T of one row: the squared error of its products with all inputs seen. */
export function productError(difference: ArrayLike<number>, moments: SecondMoments): number {
  let sum = 0;
  for (let i = 0; i < moments.size; i++) {
    for (let j = 0; j < moments.size; j++) sum += difference[i] * difference[j] * moments.at(i, j);
  }
  return sum;
}
