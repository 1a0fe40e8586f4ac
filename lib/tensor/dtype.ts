/**
 * Element types: names (ONNX spelling in lower case, as onnxruntime-common has them), ONNX numbers, sizes and the typed
 * array that stores each. The only place that knows how a dtype is stored.
 */
import { Q8Error } from '../errors';

export type TypedArray =
  | Float32Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float64Array
  | Uint32Array
  | BigUint64Array;

/**
 * Storage of each dtype. `bool` is one byte (0 or 1), `float16` and `bfloat16` their bit patterns, `string` an array; `int4`
 * and `uint4` take a byte per element here, and half a byte in files.
 */
export interface DataOf {
  float32: Float32Array;
  uint8: Uint8Array;
  int8: Int8Array;
  uint16: Uint16Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  string: string[];
  bool: Uint8Array;
  float16: Uint16Array;
  float64: Float64Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  bfloat16: Uint16Array;
  int4: Int8Array;
  uint4: Uint8Array;
}

export type DType = keyof DataOf;

interface DTypeInfo {
  /** TensorProto.DataType number. */
  onnx: number;
  bytes: number;
  make(length: number): TypedArray | string[];
  view?(buffer: ArrayBufferLike, byteOffset: number, length: number): TypedArray;
}

type Ctor<T extends TypedArray> = {
  new (length: number): T;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
};

function numeric<T extends TypedArray>(onnx: number, bytes: number, ctor: Ctor<T>): DTypeInfo {
  return {
    onnx,
    bytes,
    make: (length) => new ctor(length),
    view: (buffer, byteOffset, length) => new ctor(buffer, byteOffset, length),
  };
}

const INFO: Record<DType, DTypeInfo> = {
  float32: numeric(1, 4, Float32Array),
  uint8: numeric(2, 1, Uint8Array),
  int8: numeric(3, 1, Int8Array),
  uint16: numeric(4, 2, Uint16Array),
  int16: numeric(5, 2, Int16Array),
  int32: numeric(6, 4, Int32Array),
  int64: numeric(7, 8, BigInt64Array),
  string: { onnx: 8, bytes: 0, make: (length) => new Array<string>(length).fill('') },
  bool: numeric(9, 1, Uint8Array),
  float16: numeric(10, 2, Uint16Array),
  float64: numeric(11, 8, Float64Array),
  uint32: numeric(12, 4, Uint32Array),
  uint64: numeric(13, 8, BigUint64Array),
  bfloat16: numeric(16, 2, Uint16Array),
  uint4: numeric(21, 1, Uint8Array),
  int4: numeric(22, 1, Int8Array),
};

export const DTYPES = Object.keys(INFO) as DType[];

const BY_ONNX = new Map<number, DType>(DTYPES.map((dtype) => [INFO[dtype].onnx, dtype]));

/** Bytes per element in memory; 0 for strings. */
export function bytesOf(dtype: DType): number {
  return INFO[dtype].bytes;
}

/** Whether two elements share a byte in files. */
export function isFourBit(dtype: DType): dtype is 'int4' | 'uint4' {
  return dtype === 'int4' || dtype === 'uint4';
}

/** Bytes that `size` elements take in files. */
export function fileBytesOf(dtype: DType, size: number): number {
  return isFourBit(dtype) ? Math.ceil(size / 2) : size * bytesOf(dtype);
}

export function onnxCodeOf(dtype: DType): number {
  return INFO[dtype].onnx;
}

/** @throws ERR_Q8_UNSUPPORTED_DTYPE for codes that q8 does not know (complex, float8 and 2-bit types). */
export function dtypeFromOnnx(code: number, where: string): DType {
  const dtype = BY_ONNX.get(code);
  if (!dtype) {
    throw new Q8Error('ERR_Q8_UNSUPPORTED_DTYPE', `Tensor data type ${code} of ${where} is not supported.`, {
      hint: `q8 reads ${DTYPES.join(', ')}.`,
    });
  }
  return dtype;
}

/** A zero-filled array for `length` elements. */
export function allocate<T extends DType>(dtype: T, length: number): DataOf[T] {
  return INFO[dtype].make(length) as DataOf[T];
}

/** A typed view of bytes. `byteOffset` must be a multiple of the element size. */
export function viewOf<T extends Exclude<DType, 'string'>>(
  dtype: T,
  buffer: ArrayBufferLike,
  byteOffset: number,
  length: number,
): DataOf[T] {
  return INFO[dtype].view!(buffer, byteOffset, length) as DataOf[T];
}

/** Whether `data` is exactly the storage type of `dtype` (Uint8ClampedArray counts as uint8). */
export function isDataOf(dtype: DType, data: unknown): boolean {
  if (dtype === 'string') return Array.isArray(data);
  if (dtype === 'uint8' && data instanceof Uint8ClampedArray) return true;
  const sample = INFO[dtype].make(0) as TypedArray;
  return data instanceof (sample.constructor as new (...a: never[]) => unknown) && !(data instanceof Uint8ClampedArray);
}

/** Types of codes of integer operators. */
export type QuantizedDType = 'uint8' | 'int8';

/** All types that QuantizeLinear and DequantizeLinear have codes of, int32 (of biases) aside. */
export type CodeDType = QuantizedDType | 'uint16' | 'int16' | 'uint4' | 'int4';

const CODE_RANGES: Record<CodeDType, [number, number]> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65535],
  int16: [-32768, 32767],
  uint4: [0, 15],
  int4: [-8, 7],
};

export function isCodeDType(dtype: DType): dtype is CodeDType {
  return dtype in CODE_RANGES;
}

/** Smallest and largest code of a type. */
export function codeRange(dtype: CodeDType): [number, number] {
  return CODE_RANGES[dtype];
}
