/** 16-bit floats as numbers: float16 (IEEE binary16) and bfloat16 are stored as bit patterns, and decoded here. */
import { roundHalfEven } from './rounding';

const double = new Float64Array(1);
const doubleWords = new Uint32Array(double.buffer);
const single = new Float32Array(1);
const singleWord = new Uint32Array(single.buffer);

/** The value of a float16 bit pattern. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

let values: Float64Array | undefined;

/** The values of float16 bit patterns. By a table of all of them, which is made when first needed. */
export function float16ToNumbers(bits: Uint16Array): Float64Array {
  values ??= Float64Array.from({ length: 65536 }, (_, pattern) => float16ToNumber(pattern));
  const out = new Float64Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = values[bits[i]];
  return out;
}

/** The float16 nearest to a value, ties to even, in one rounding; overflow gives infinity. */
export function numberToFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  // A mantissa that rounds up to 1024 carries into the exponent by itself, in both branches.
  if (magnitude < 2 ** -14) return sign | roundHalfEven(magnitude * 2 ** 24);
  double[0] = magnitude;
  const exponent = (doubleWords[1] >>> 20) - 1023;
  return sign | (((exponent + 15) << 10) + roundHalfEven(magnitude * 2 ** (10 - exponent)) - 1024);
}

/** The value of a bfloat16 bit pattern: the upper half of a float32. */
export function bfloat16ToNumber(bits: number): number {
  singleWord[0] = bits << 16;
  return single[0];
}

/** The bfloat16 nearest to the float32 of a value, ties to even. */
export function numberToBfloat16(value: number): number {
  single[0] = value;
  const word = singleWord[0];
  if (Number.isNaN(value)) return 0x7fc0;
  return ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff;
}
