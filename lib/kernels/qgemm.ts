/**
 * qgemm: C = (A - za)(B - zb) on 8-bit integers, with int32, requantized or float32 output. Everything is checked here, in
 * the user's words; the numbers then go to the addon in one array, because every value that crosses costs as much as a small
 * product.
 */
import type { Codes, PackedGemm } from '../../binding';
import { loadBinding, toQ8Error } from '../binding/load';
import { checkOptionKeys, expected, Q8Error } from '../errors';
import { checkArray, checkCodes, checkLength } from './buffers';
import {
  batchSpan,
  batchStride,
  checkCode,
  checkDimension,
  leadingDimension,
  matrixSpan,
  zeroPointCodes,
} from './integers';
import { checkB, nativeWeights, PackedWeights } from './packed-weights';

/** int32 -> 8 bit: roundHalfEven(clamp((acc + bias) * scale, min - zeroPoint, max - zeroPoint)) + zeroPoint. */
export interface RequantizeOptions<D extends 'uint8' | 'int8' = 'uint8' | 'int8'> {
  /** The multiplier aScale * bScale / outScale, finite and > 0: one, or one per column. */
  scale: number | Float32Array;
  dtype: D;
  /** Of the output. Default 0. */
  zeroPoint?: number;
  /** One int32 per column, in units of aScale * bScale. */
  bias?: Int32Array;
  /** Smallest and largest code, for a fused activation. Default: the range of the type. */
  min?: number;
  max?: number;
}

/** int32 -> float32: acc * scale + bias, each operation rounded to float32. */
export interface DequantizeOptions {
  /** aScale * bScale, finite and > 0: one, or one per column. */
  scale: number | Float32Array;
  /** One per column. */
  bias?: Float32Array;
}

export interface QgemmOptions {
  /** C is m x n, A m x k, B k x n. Any may be 0; with k = 0 the accumulator is 0. */
  m: number;
  n: number;
  k: number;
  /** Row-major, `lda` elements between rows (default k). float32 with `dynamicQuantize`. */
  a: Codes | Float32Array;
  lda?: number;
  /** Row-major with `ldb` between rows (default: dense), n x k with `transposeB`; or packed once by packWeights(). */
  b: Codes | PackedWeights;
  ldb?: number;
  transposeB?: boolean;
  /** A code of a's type. Default 0. */
  aZeroPoint?: number;
  /** A code of b's type, or one per column in an array of that type. Default 0. Packed weights bring their own. */
  bZeroPoint?: number | Codes;
  /** Receives the m x n result in its first elements. Must not overlap a or b. Default: a new array. */
  out?: Int32Array | Float32Array | Codes;
  /** Number of products, which share zero points and output stage. Default 1. */
  batch?: number;
  /**
   * Elements from one matrix of a batch to the next. Default: dense, m * lda, all rows of b, and m * n. 0 for strideA or
   * strideB: all products share the matrix, as they do packed weights. strideC is at least m * n.
   */
  strideA?: number;
  strideB?: number;
  strideC?: number;
  /**
   * For a float32 `a`, with `dequantize`: quantizes a to uint8 by its range, of the whole batch ('tensor', as
   * DynamicQuantizeLinear does) or of each row ('row'). dequantize.scale is then that of b alone; the result is
   * acc * (aScale * scale) + bias. NaN counts as the least value.
   */
  dynamicQuantize?: 'tensor' | 'row';
  /** Upper limit of threads, from 1. Default: all that the process may use. Small products take one anyway. */
  threads?: number;
  /** Output as 8-bit codes. */
  requantize?: RequantizeOptions;
  /** Output as float32. Without either the output is int32. */
  dequantize?: DequantizeOptions;
}

export interface QgemmAsyncOptions extends QgemmOptions {
  /** Aborts the call: the promise is rejected with signal.reason and the content of `out` is undefined. */
  signal?: AbortSignal;
}

/** The array that a call returns. */
export type QgemmResult<O extends QgemmOptions> = O extends { requantize: { dtype: infer D } }
  ? { uint8: Uint8Array; int8: Int8Array }[D & ('uint8' | 'int8')]
  : O extends { dequantize: DequantizeOptions }
    ? Float32Array
    : Int32Array;

const KEYS = new Set([
  ...['m', 'n', 'k', 'a', 'lda', 'b', 'ldb', 'transposeB', 'aZeroPoint', 'bZeroPoint', 'out', 'threads'],
  ...['requantize', 'dequantize', 'batch', 'strideA', 'strideB', 'strideC', 'dynamicQuantize'],
]);
const ASYNC_KEYS = new Set([...KEYS, 'signal']);
const REQUANTIZE_KEYS = new Set(['scale', 'dtype', 'zeroPoint', 'bias', 'min', 'max']);
const DEQUANTIZE_KEYS = new Set(['scale', 'bias']);

/** Positions in QgemmWords, see binding.d.ts. */
const WORD = {
  m: 0,
  n: 1,
  k: 2,
  lda: 3,
  ldb: 4,
  transposeB: 5,
  aZeroPoint: 6,
  threads: 7,
  kind: 8,
  scale: 9,
  zeroPoint: 10,
  min: 11,
  max: 12,
  present: 13,
  batch: 14,
  strideA: 15,
  strideB: 16,
  strideC: 17,
  dynamicQuantize: 18,
} as const;
const HAS_SCALE = 1;
const HAS_BIAS = 2;
const HAS_B_ZERO_POINT = 4;
const B_IS_PACKED = 8;

/** A checked call. There is one, filled anew: the addon reads it before the next call can begin. */
const call = {
  words: new Float64Array(19),
  b: undefined as unknown as Codes | PackedGemm,
  out: undefined as unknown as Int32Array | Float32Array | Codes,
  scale: null as Float32Array | null,
  bias: null as Int32Array | Float32Array | null,
  bZeroPoint: null as Codes | null,
};

/**
 * Multiplies 8-bit matrices exactly, on the calling thread plus pool threads where that pays. Any combination of Uint8Array
 * and Int8Array runs at the same speed. Results are the same bits on every CPU and for every number of threads.
 * @returns `out`, or a new array of m * n elements, (batch - 1) * strideC more with a batch.
 * @throws Q8Error ERR_Q8_INVALID_ARGUMENT, ERR_Q8_SHAPE_MISMATCH, ERR_Q8_DETACHED_BUFFER, ERR_Q8_DISPOSED,
 * ERR_Q8_OUT_OF_MEMORY.
 * @example
 * const c = qgemm({ m: 1, n: 2, k: 2, a: Uint8Array.of(1, 2), b: Int8Array.of(3, 4, 5, 6) }); // Int32Array [13, 16]
 */
export function qgemm<const O extends QgemmOptions>(options: O): QgemmResult<O> {
  checkKeys(options, KEYS, 'qgemm()');
  prepare(options, 'qgemm()');
  try {
    loadBinding().qgemm(call.words, options.a, call.b, call.out, call.scale, call.bias, call.bZeroPoint);
  } catch (error) {
    throw toQ8Error(error);
  }
  return call.out as QgemmResult<O>;
}

/**
 * {@link qgemm} on the thread pool: the event loop keeps running. a, b, out and the arrays of the output stage must not be
 * changed or transferred until the promise settles.
 * @throws as qgemm, by rejection; signal.reason when aborted, at once if the signal already is.
 */
export async function qgemmAsync<const O extends QgemmAsyncOptions>(options: O): Promise<QgemmResult<O>> {
  checkKeys(options, ASYNC_KEYS, 'qgemmAsync()');
  const { signal, a } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw expected('an AbortSignal', 'signal', signal);
  signal?.throwIfAborted();
  prepare(options, 'qgemmAsync()');
  const { words, b, out, scale, bias, bZeroPoint } = call;
  const cancel = signal ? new Int32Array(1) : null;
  const abort = () => Atomics.store(cancel as Int32Array, 0, 1);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await loadBinding().qgemmAsync(words, a, b, out, scale, bias, bZeroPoint, cancel);
  } catch (error) {
    signal?.throwIfAborted();
    throw toQ8Error(error);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  return out as QgemmResult<O>;
}

/** checkOptionKeys at the price of one loop when there is nothing to complain about. */
function checkKeys(options: object, keys: ReadonlySet<string>, where: string): void {
  if (options === null || typeof options !== 'object') checkOptionKeys(options, keys, where);
  for (const key in options) {
    if (!keys.has(key)) checkOptionKeys(options, keys, where);
  }
}

/** Checks everything and fills `call`. */
function prepare(options: QgemmOptions, where: string): void {
  const { m, n, k, a, b, out, threads, requantize, dequantize } = options;
  const { words } = call;
  let present = 0;
  checkDimension(m, 'm');
  checkDimension(n, 'n');
  checkDimension(k, 'k');
  if (!Number.isSafeInteger(m * n)) throw expected('m * n to be a safe integer', where, `${m} * ${n}`);

  const { batch = 1 } = options;
  checkDimension(batch, 'batch');
  const dynamic = prepareDynamic(options, where);
  if (dynamic === 0) checkCodes(a, 'a');
  const lda = leadingDimension(options.lda, k, 'lda');
  const strideA = batchStride(options.strideA, m * lda, 'strideA');
  const aSpan = batchSpan(batch, strideA, matrixSpan(m, k, lda));
  const isDenseA = options.lda === undefined && options.strideA === undefined;
  if (a.length < aSpan || (isDenseA && a.length !== batch * m * k)) {
    throw expected(`${aSpan} elements (${batch === 1 ? '' : `${batch} of `}${m}x${k})`, `a of ${where}`, a, {
      code: 'ERR_Q8_SHAPE_MISMATCH',
    });
  }
  const aZeroPoint = options.aZeroPoint ?? 0;
  checkCode(aZeroPoint, a instanceof Int8Array, 'aZeroPoint');

  let ldb = 0;
  let strideB = 0;
  let transposeB = false;
  call.bZeroPoint = null;
  if (b instanceof PackedWeights) {
    refuseForPacked(options);
    if (b.k !== k || b.n !== n) {
      throw new Q8Error(
        'ERR_Q8_SHAPE_MISMATCH',
        `Expected packed weights of ${k}x${n} for b of ${where} but received ${b.k}x${b.n}.`,
        { hint: b.k === n && b.n === k ? 'They look transposed; pack them with { transposeB: true }.' : undefined },
      );
    }
    call.b = nativeWeights(b);
    present |= B_IS_PACKED;
  } else {
    if (!(b instanceof Uint8Array || b instanceof Int8Array)) {
      throw expected('a Uint8Array, an Int8Array or PackedWeights', 'b', b);
    }
    checkCodes(b, 'b');
    transposeB = options.transposeB ?? false;
    ldb = leadingDimension(options.ldb, transposeB === true ? k : n, 'ldb');
    strideB = batchStride(options.strideB, (transposeB === true ? n : k) * ldb, 'strideB');
    const isDense = options.ldb === undefined && options.strideB === undefined;
    checkB(b, k, n, options.ldb, transposeB, where, batch, strideB, isDense);
    call.b = b;
    call.bZeroPoint = zeroPointCodes(options.bZeroPoint, b, n, 'bZeroPoint');
    if (call.bZeroPoint !== null) present |= HAS_B_ZERO_POINT;
  }

  if (threads !== undefined && (!Number.isSafeInteger(threads) || threads < 1)) {
    throw expected('an integer >= 1', 'threads', threads, { hint: 'Leave it out to use all threads.' });
  }
  call.scale = null;
  call.bias = null;
  if (requantize !== undefined && dequantize !== undefined) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Expected at most one of requantize and dequantize for ${where}.`);
  }
  if (requantize !== undefined) present |= prepareRequantize(requantize, n);
  else if (dequantize !== undefined) present |= prepareDequantize(dequantize, n);
  else words[WORD.kind] = 0;

  const type = OUTPUT_TYPES[words[WORD.kind]];
  const strideC = batchStride(options.strideC, m * n, 'strideC');
  if (batch > 1 && strideC < m * n) throw expected(`an integer >= m * n (${m * n})`, 'strideC', strideC);
  const cSpan = batchSpan(batch, strideC, m * n);
  if (!Number.isSafeInteger(cSpan)) throw expected('an output of at most 2^53 elements', where, cSpan);
  if (out === undefined) {
    call.out = allocate(type, cSpan);
  } else {
    checkArray(out, type, 'out');
    if (out.length < cSpan) {
      const shape = `${batch === 1 ? '' : `${batch} of `}${m}x${n}`;
      throw expected(`at least ${cSpan} elements (${shape})`, 'out', out, { code: 'ERR_Q8_SHAPE_MISMATCH' });
    }
    call.out = out;
  }

  words[WORD.m] = m;
  words[WORD.n] = n;
  words[WORD.k] = k;
  words[WORD.lda] = lda;
  words[WORD.ldb] = ldb;
  words[WORD.transposeB] = transposeB ? 1 : 0;
  words[WORD.aZeroPoint] = aZeroPoint;
  words[WORD.threads] = threads ?? 0;
  words[WORD.present] = present;
  words[WORD.batch] = batch;
  words[WORD.strideA] = strideA;
  words[WORD.strideB] = strideB;
  words[WORD.strideC] = strideC;
  words[WORD.dynamicQuantize] = dynamic;
}

/** Checks what belongs to a float `a`; returns the word of the mode, 0 for a of codes. */
function prepareDynamic(options: QgemmOptions, where: string): number {
  const { a, dynamicQuantize, dequantize, aZeroPoint } = options;
  if (dynamicQuantize === undefined) {
    if (!(a instanceof Float32Array)) return 0;
    throw expected('a Uint8Array or Int8Array', 'a', a, {
      hint: "To quantize floats on the way, pass { dynamicQuantize: 'tensor' } or 'row'.",
    });
  }
  if (dynamicQuantize !== 'tensor' && dynamicQuantize !== 'row') {
    throw expected("'tensor' or 'row'", 'dynamicQuantize', dynamicQuantize);
  }
  checkArray(a, Float32Array, 'a');
  if (dequantize === undefined) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Expected dequantize with dynamicQuantize for ${where}.`, {
      hint: 'Pass the scale of b: { dequantize: { scale } }.',
    });
  }
  if (aZeroPoint !== undefined) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Expected no aZeroPoint with dynamicQuantize for ${where}.`);
  }
  return dynamicQuantize === 'tensor' ? 1 : 2;
}

const OUTPUT_TYPES: readonly (new (length: number) => Int32Array | Float32Array | Codes)[] = [
  Int32Array,
  Float32Array,
  Uint8Array,
  Int8Array,
];

function allocate<T>(type: new (length: number) => T, length: number): T {
  try {
    return new type(length);
  } catch (cause) {
    throw new Q8Error('ERR_Q8_OUT_OF_MEMORY', `Cannot allocate ${length} elements for the result.`, { cause });
  }
}

/** What belongs to packWeights() once the weights are packed. */
function refuseForPacked(options: QgemmOptions): void {
  const { ldb, transposeB, bZeroPoint, strideB } = options;
  if (strideB !== undefined && strideB !== 0) {
    throw expected('0, for packed weights are shared,', 'strideB', strideB, {
      hint: 'Multiply each matrix of b by a call of its own, or pass b unpacked.',
    });
  }
  const name =
    (ldb !== undefined && 'ldb') ||
    (transposeB !== undefined && 'transposeB') ||
    (bZeroPoint !== undefined && 'bZeroPoint');
  if (!name) return;
  throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Expected no ${name} for packed weights.`, {
    hint: `Pass ${name === 'bZeroPoint' ? 'zeroPoint' : name} to packWeights().`,
  });
}

function prepareRequantize(options: RequantizeOptions, n: number): number {
  checkKeys(options, REQUANTIZE_KEYS, 'requantize');
  const { dtype, scale, zeroPoint = 0, bias } = options;
  if (dtype !== 'uint8' && dtype !== 'int8') throw expected("'uint8' or 'int8'", 'requantize.dtype', dtype);
  const isSigned = dtype === 'int8';
  const { min = isSigned ? -128 : 0, max = isSigned ? 127 : 255 } = options;
  checkCode(zeroPoint, isSigned, 'requantize.zeroPoint');
  checkCode(min, isSigned, 'requantize.min');
  checkCode(max, isSigned, 'requantize.max');
  if (min > max) throw expected(`an integer >= min (${min})`, 'requantize.max', max);
  const { words } = call;
  words[WORD.kind] = isSigned ? 3 : 2;
  words[WORD.zeroPoint] = zeroPoint;
  words[WORD.min] = min;
  words[WORD.max] = max;
  let present = prepareScale(scale, n, 'requantize.scale');
  if (bias !== undefined) {
    checkArray(bias, Int32Array, 'requantize.bias');
    checkLength(bias, n, 'requantize.bias');
    call.bias = bias;
    present |= HAS_BIAS;
  }
  return present;
}

function prepareDequantize(options: DequantizeOptions, n: number): number {
  checkKeys(options, DEQUANTIZE_KEYS, 'dequantize');
  const { scale, bias } = options;
  call.words[WORD.kind] = 1;
  let present = prepareScale(scale, n, 'dequantize.scale');
  if (bias !== undefined) {
    checkArray(bias, Float32Array, 'dequantize.bias');
    checkLength(bias, n, 'dequantize.bias');
    call.bias = bias;
    present |= HAS_BIAS;
  }
  return present;
}

function prepareScale(scale: number | Float32Array, n: number, name: string): number {
  if (typeof scale === 'number') {
    if (!isScale(Math.fround(scale))) throw expected('a finite float32 > 0', name, scale);
    call.words[WORD.scale] = scale;
    return 0;
  }
  checkArray(scale, Float32Array, name);
  checkLength(scale, n, name);
  for (let i = 0; i < n; i++) {
    if (!isScale(scale[i])) throw expected('a finite float32 > 0', `${name}[${i}]`, scale[i]);
  }
  call.scale = scale;
  return HAS_SCALE;
}

function isScale(value: number): boolean {
  return value > 0 && value < Infinity;
}
