/**
 * The scalar arithmetic of quantization, which every 8-bit operator is built from and every native kernel reproduces bit
 * for bit. The formulas are those of the ONNX QuantizeLinear, DequantizeLinear and QLinear* specifications with the order of
 * operations that ONNX Runtime's CPU kernels use: fp32 throughout, true division, clamp and round half to even before the
 * zero point is added as an integer.
 */
import type { Node } from '../../graph/graph';
import { allocate, type CodeDType, codeRange, type DType, type QuantizedDType } from '../../tensor/dtype';
import { roundHalfEven } from '../../tensor/rounding';
import { Tensor } from '../../tensor/tensor';
import type { LowerContext } from '../define-op';
import { modelError } from './inference';
import { scalarOf, toDoubles } from './values';

export { roundHalfEven } from '../../tensor/rounding';

const { fround } = Math;
const NO_FRACTION = 1.5 * 2 ** 52;

/** Scale and zero point of one tensor. */
export interface Quantization {
  scale: number;
  zeroPoint: number;
  dtype: QuantizedDType;
}

/** Clamps, rounds half to even, then adds the zero point. NaN gives `min`. */
function roundToCode(value: number, zeroPoint: number, min: number, max: number): number {
  const low = min - zeroPoint;
  const high = max - zeroPoint;
  return roundHalfEven(value > low ? (value < high ? value : high) : low) + zeroPoint;
}

/** float32 -> code: round(clamp(fl(x / scale), min - zp, max - zp)) + zp. `x` and `scale` are float32 values. */
export function quantizeCode(x: number, scale: number, zeroPoint: number, min: number, max: number): number {
  return roundToCode(fround(x / scale), zeroPoint, min, max);
}

/** code -> float32: fl((q - zp) * scale). */
export function dequantizeCode(code: number, scale: number, zeroPoint: number): number {
  return fround(fround(code - zeroPoint) * scale);
}

/** int32 accumulator -> code: round(clamp(fl(fl(acc) * multiplier), min - zp, max - zp)) + zp. */
export function requantizeCode(acc: number, multiplier: number, zeroPoint: number, min: number, max: number): number {
  return roundToCode(fround(fround(acc) * multiplier), zeroPoint, min, max);
}

/** fl(fl(xScale * wScale) / yScale), one value per weight scale. */
export function requantizeMultipliers(xScale: number, wScales: ArrayLike<number>, yScale: number): Float32Array {
  // A plain loop: Float32Array.from() takes twenty times as long, and binding a plan comes here for every convolution.
  const multipliers = new Float32Array(wScales.length);
  for (let i = 0; i < multipliers.length; i++) multipliers[i] = fround(xScale * wScales[i]) / yScale;
  return multipliers;
}

const BYTES = Uint8Array.from({ length: 256 }, (_, byte) => byte);
/** Every code of a type, in the order of the byte patterns. */
export const ALL_CODES: Readonly<Record<QuantizedDType, Tensor>> = {
  uint8: new Tensor('uint8', BYTES),
  int8: new Tensor('int8', new Int8Array(BYTES.buffer)),
};

/** The output codes of all 256 input codes (index and entry are byte patterns) for a float32 function between them. */
export function codeTable(x: Quantization, y: Quantization, compute: (value: number) => number): Uint8Array {
  const values = dequantizeTensor(ALL_CODES[x.dtype], x);
  for (let byte = 0; byte < 256; byte++) values[byte] = compute(values[byte]);
  const table = new Uint8Array(256);
  quantizeInto(table, values, y);
  return table;
}

/** The table that carries codes from one quantization to another. */
export function rescaleTable(x: Quantization, y: Quantization): Uint8Array {
  return codeTable(x, y, (value) => value);
}

/** Whether two tensors share their meaning of codes, so that codes can be copied. */
export function sameQuantization(a: Quantization, b: Quantization): boolean {
  return a.scale === b.scale && a.zeroPoint === b.zeroPoint && a.dtype === b.dtype;
}

/** y = table[x] on byte patterns. */
export function applyTable(x: Tensor, table: Uint8Array, dtype: QuantizedDType): Tensor {
  if (x === ALL_CODES[x.type as QuantizedDType]) return tensorOfBytes(table, dtype);
  const codes = x.data as Uint8Array | Int8Array;
  const out = dtype === 'uint8' ? new Uint8Array(codes.length) : new Int8Array(codes.length);
  for (let i = 0; i < codes.length; i++) out[i] = table[codes[i] & 0xff];
  return new Tensor(dtype, out, x.dims);
}

function tensorOfBytes(bytes: Uint8Array, dtype: QuantizedDType): Tensor {
  if (dtype === 'uint8') return new Tensor('uint8', bytes);
  return new Tensor('int8', new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length));
}

/** Elements of a quantized tensor as float32. */
export function dequantizeTensor(
  x: Tensor,
  { scale, zeroPoint }: Pick<Quantization, 'scale' | 'zeroPoint'>,
): Float32Array {
  const codes = x.data as Uint8Array;
  const out = new Float32Array(codes.length);
  for (let i = 0; i < out.length; i++) out[i] = fround(codes[i] - zeroPoint) * scale;
  return out;
}

/** float32 elements as a tensor of codes. */
export function quantizeTensor(
  values: Float32Array,
  dims: readonly number[],
  to: Pick<Quantization, 'scale' | 'zeroPoint'> & { dtype: CodeDType },
): Tensor {
  const out = allocate(to.dtype, values.length);
  quantizeInto(out, values, to);
  return new Tensor<DType>(to.dtype, out, dims);
}

/**
 * quantizeCode() of each value, written out: loading a model makes many tables before the compiler has seen enough of
 * them to inline anything.
 */
function quantizeInto(
  out: { [index: number]: number },
  values: Float32Array,
  { scale, zeroPoint, dtype }: Pick<Quantization, 'scale' | 'zeroPoint'> & { dtype: CodeDType },
): void {
  const [min, max] = codeRange(dtype);
  const low = min - zeroPoint;
  const high = max - zeroPoint;
  for (let i = 0; i < values.length; i++) {
    const value = fround(values[i] / scale);
    const bounded = value > low ? (value < high ? value : high) : low;
    // The sum has no fraction bits left: to nearest, ties to even, for what 53 bits hold.
    out[i] = bounded + NO_FRACTION - NO_FRACTION + zeroPoint;
  }
}

/** uint8 parameters from a tensor's own range, which always includes 0. An empty or all-zero tensor gets scale 1. */
export function dynamicQuantization(values: Float32Array): Quantization {
  let low = 0;
  let high = 0;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const scale = high === low ? 1 : fround(fround(high - low) / 255);
  return { scale, zeroPoint: roundToCode(fround(0 - fround(low / scale)), 0, 0, 255), dtype: 'uint8' };
}

/** Scale and zero point from their tensors; the zero point is 0 when absent. Scales must be scalars. */
export function quantizationOf(
  node: Node,
  name: string,
  scale: Tensor | null | undefined,
  zeroPoint: Tensor | null | undefined,
  dtype: DType,
): Quantization {
  if (!scale) throw modelError(node, 'a tensor', `the scale of ${name}`, 'nothing');
  if (scale.size !== 1) throw modelError(node, 'one element', `the scale of ${name}`, `${scale.size} elements`);
  if (zeroPoint && zeroPoint.size !== 1) {
    throw modelError(node, 'one element', `the zero point of ${name}`, `${zeroPoint.size} elements`);
  }
  return { scale: scalarOf(scale), zeroPoint: zeroPoint ? scalarOf(zeroPoint) : 0, dtype: eightBit(node, name, dtype) };
}

/** `dtype` when it is an 8-bit type, else ERR_Q8_BAD_MODEL. */
export function eightBit(node: Node, name: string, dtype: DType): QuantizedDType {
  if (dtype !== 'uint8' && dtype !== 'int8') throw modelError(node, 'type uint8 or int8', name, dtype);
  return dtype;
}

/** {@link quantizationOf} for lower(): undefined when a parameter is computed at run time. */
export function constantQuantization(
  context: LowerContext,
  name: string,
  scaleIndex: number,
  dtype: DType,
): Quantization | undefined {
  const { node } = context;
  const scale = context.constant(node.input(scaleIndex));
  const zeroPointValue = node.input(scaleIndex + 1);
  const zeroPoint = context.constant(zeroPointValue);
  if (!scale || (zeroPointValue && !zeroPoint)) return undefined;
  return quantizationOf(node, name, scale, zeroPoint, dtype);
}

/** Per-channel or per-tensor parameters spread over `count` channels. */
export function spread(node: Node, name: string, parameter: Tensor | null | undefined, count: number): Float64Array {
  if (!parameter) return new Float64Array(count);
  const values = toDoubles(parameter);
  if (values.length === count) return values;
  if (values.length !== 1) throw modelError(node, `1 or ${count} elements`, name, `${values.length} elements`);
  return new Float64Array(count).fill(values[0]);
}
