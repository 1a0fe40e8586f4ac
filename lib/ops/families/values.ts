/**
 * Tensors as plain numbers and back: what run() computes with. Floats are computed in double and rounded once on storing,
 * which for +, -, *, / and sqrt of float32 operands gives the correctly rounded float32 result.
 */
import { allocate, type DataOf, type DType } from '../../tensor/dtype';
import { bfloat16ToNumber, float16ToNumbers, numberToBfloat16, numberToFloat16 } from '../../tensor/float16';
import { Tensor } from '../../tensor/tensor';
import { Q8Error } from '../../errors';
import type { Value } from '../../graph/graph';

export function isBigInt(dtype: DType): dtype is 'int64' | 'uint64' {
  return dtype === 'int64' || dtype === 'uint64';
}

export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'float16' || dtype === 'bfloat16';
}

/** Elements as doubles, exact for every numeric dtype up to 2^53. A fresh array. */
export function toDoubles(tensor: Tensor): Float64Array {
  const { type, size } = tensor;
  if (type === 'string') throw noNumbers(type);
  if (isBigInt(type)) {
    const data = tensor.data as BigInt64Array;
    const out = new Float64Array(size);
    for (let i = 0; i < size; i++) out[i] = Number(data[i]);
    return out;
  }
  const data = tensor.data as Exclude<DataOf[DType], string[] | BigInt64Array | BigUint64Array>;
  if (type !== 'float16' && type !== 'bfloat16') return new Float64Array(data);
  if (type === 'float16') return float16ToNumbers(data as Uint16Array);
  return Float64Array.from(data as Uint16Array, bfloat16ToNumber);
}

/** Stores doubles as `dtype`: floats round to nearest even, integers truncate toward zero and wrap, bool is "not zero". */
export function fromDoubles<T extends DType>(dtype: T, values: Float64Array, dims: readonly number[]): Tensor<T> {
  const data = allocate(dtype, values.length);
  if (dtype === 'string') throw noNumbers(dtype);
  if (isBigInt(dtype)) {
    const out = data as BigInt64Array;
    for (let i = 0; i < values.length; i++) out[i] = Number.isFinite(values[i]) ? BigInt(Math.trunc(values[i])) : 0n;
  } else if (dtype === 'float16' || dtype === 'bfloat16') {
    const encode = dtype === 'float16' ? numberToFloat16 : numberToBfloat16;
    const out = data as Uint16Array;
    for (let i = 0; i < values.length; i++) out[i] = encode(values[i]);
  } else if (dtype === 'bool') {
    const out = data as Uint8Array;
    for (let i = 0; i < values.length; i++) out[i] = values[i] !== 0 ? 1 : 0;
  } else {
    (data as Float32Array).set(values);
  }
  return new Tensor(dtype, data, dims);
}

/** A tensor of integers (axes, shapes, indices) as numbers. int64 extremes used as "to the end" stay huge. */
export function integersOf(tensor: Tensor): number[] {
  return Array.from(toDoubles(tensor));
}

/** The first element of a tensor as a number. */
export function scalarOf(tensor: Tensor): number {
  return toDoubles(tensor.size === 1 ? tensor : firstElement(tensor))[0];
}

/** An int64 tensor of numbers. */
export function int64Tensor(values: readonly number[], dims: readonly number[] = [values.length]): Tensor<'int64'> {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}

function firstElement(tensor: Tensor): Tensor {
  return new Tensor(tensor.type, (tensor.data as Float32Array).slice(0, 1) as DataOf[DType], [1]);
}

function noNumbers(dtype: DType): Q8Error {
  return new Q8Error('ERR_Q8_UNSUPPORTED_DTYPE', `Expected numbers but received a tensor of type ${dtype}.`);
}

/** Whether a value is one constant number that does not change the shape of what it is combined with. */
export function isScalarConstant(value: Value | null): boolean {
  return value?.constant?.size === 1 && value.constant.dims.length <= 1;
}
