/** Weights packed once for the instruction set in use, to be multiplied many times. */
import type { Codes, PackedGemm } from '../../binding';
import { loadBinding, toQ8Error } from '../binding/load';
import { checkOptionKeys, expected, Q8Error } from '../errors';
import { checkCodes } from './buffers';
import { batchSpan, checkDimension, leadingDimension, matrixSpan, zeroPointCodes } from './integers';

export interface PackWeightsOptions {
  /** Rows of B. */
  k: number;
  /** Columns of B. */
  n: number;
  /** K x N row-major, or N x K with `transposeB`. Copied: it may change afterwards. */
  b: Codes;
  /** Elements between rows of b. Default: dense. */
  ldb?: number;
  /** Whether b is N x K. Default false. */
  transposeB?: boolean;
  /** Zero point of b: one number, or one per column in an array of b's type. Default 0. */
  zeroPoint?: number | Codes;
}

const KEYS = new Set(['k', 'n', 'b', 'ldb', 'transposeB', 'zeroPoint']);

/** The native weights of a PackedWeights. @throws ERR_Q8_DISPOSED */
export let nativeWeights: (weights: PackedWeights) => PackedGemm;

/**
 * Immutable packed weights, made by {@link packWeights}. They hold native memory: dispose() frees it at once, the garbage
 * collector later. Calls in flight keep what they use.
 */
export class PackedWeights {
  /** Rows of B. */
  readonly k: number;
  /** Columns of B. */
  readonly n: number;
  /** Native memory held. */
  readonly bytes: number;
  #native: PackedGemm | undefined;

  static {
    nativeWeights = (weights) => {
      const native = weights.#native;
      if (native === undefined) {
        throw new Q8Error('ERR_Q8_DISPOSED', 'The PackedWeights have been disposed.', {
          hint: 'Call packWeights() again, or dispose them later.',
        });
      }
      return native;
    };
  }

  /** @internal Use {@link packWeights}. */
  constructor(native: PackedGemm) {
    this.k = native.k;
    this.n = native.n;
    this.bytes = native.bytes;
    this.#native = native;
  }

  /** Frees the memory. Idempotent; using the weights afterwards throws ERR_Q8_DISPOSED. */
  dispose(): void {
    this.#native?.release();
    this.#native = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Packs B for repeated use as `b` of qgemm().
 * @throws Q8Error ERR_Q8_INVALID_ARGUMENT, ERR_Q8_SHAPE_MISMATCH when b does not hold K x N, ERR_Q8_OUT_OF_MEMORY.
 * @example
 * const weights = packWeights({ k: 768, n: 256, b: new Int8Array(768 * 256) });
 */
export function packWeights(options: PackWeightsOptions): PackedWeights {
  return packWeightsFor(undefined, options);
}

/** packWeights for an instruction set by name, which must run on this CPU; qgemm() then multiplies with it. */
export function packWeightsFor(isa: string | undefined, options: PackWeightsOptions): PackedWeights {
  checkOptionKeys(options, KEYS, 'packWeights()');
  const { k, n, b, transposeB = false } = options;
  checkDimension(k, 'k');
  checkDimension(n, 'n');
  checkCodes(b, 'b');
  const ldb = checkB(b, k, n, options.ldb, transposeB, 'packWeights()');
  const zeroPoint = zeroPointCodes(options.zeroPoint, b, n, 'zeroPoint');
  try {
    return new PackedWeights(loadBinding().packGemm(b, k, n, ldb, transposeB, zeroPoint, isa));
  } catch (error) {
    throw toQ8Error(error);
  }
}

/** Checks that b holds `batch` matrices of K x N (N x K when transposed); returns their leading dimension. Dense: no more than that. */
export function checkB(
  b: Codes,
  k: number,
  n: number,
  ldb: number | undefined,
  transposeB: unknown,
  where: string,
  batch = 1,
  stride = 0,
  isDense = ldb === undefined,
): number {
  if (typeof transposeB !== 'boolean') throw expected('a boolean', 'transposeB', transposeB);
  const rows = transposeB ? n : k;
  const columns = transposeB ? k : n;
  const ld = leadingDimension(ldb, columns, 'ldb');
  const span = batchSpan(batch, stride, matrixSpan(rows, columns, ld));
  if (b.length < span || (isDense && b.length !== span)) {
    const count = batch === 1 ? '' : `${batch} of `;
    const shape = `${count}${rows}x${columns}${ldb === undefined ? '' : ` with ldb ${ld}`}`;
    throw expected(`${span} elements (${shape})`, `b of ${where}`, b, { code: 'ERR_Q8_SHAPE_MISMATCH' });
  }
  return ld;
}
