/** TensorProto to Tensor and back. Reading keeps raw bytes in place when their alignment allows it; writing never copies. */
import { expected, type Q8Error } from '../errors';
import { lazyBytesOf, setLazyBytes } from '../onnx/lazy-bytes';
import { DataLocation, type TensorProto, toBigInt, toSafeInteger } from '../onnx/proto';
import {
  allocate,
  bytesOf,
  type DType,
  dtypeFromOnnx,
  fileBytesOf,
  isFourBit,
  onnxCodeOf,
  viewOf,
} from '../tensor/dtype';
import { packNibbles, unpackNibbles } from '../tensor/nibbles';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';

/**
 * The tensor in a message. `where` names it in errors.
 * @throws ERR_Q8_BAD_MODEL when data and dims disagree, ERR_Q8_UNSUPPORTED_DTYPE
 */
export function tensorFromProto(proto: TensorProto, where: string): Tensor {
  const dtype = dtypeFromOnnx(proto.dataType ?? 0, where);
  const dims = (proto.dims ?? []).map((dim) => toSafeInteger(dim, `a dimension of ${where}`));
  if (dims.some((dim) => dim < 0)) throw malformed('non-negative dimensions', where, dims);
  if (dims.length > 0 && !Number.isSafeInteger(dims.reduce((a, b) => a * b))) {
    throw malformed('less than 2^53 elements', where, dims);
  }
  if (proto.dataLocation === DataLocation.EXTERNAL) throw malformed('its side file to be loaded', where, 'a reference');
  if (proto.segment) throw malformed('a whole tensor', where, 'a segment');

  const size = sizeOf(dims);
  const lazy = lazyBytesOf(proto);
  if (lazy && dtype !== 'string') {
    const bytes = fileBytesOf(dtype, size);
    if (lazy.byteLength !== bytes) throw malformed(`${bytes} bytes of ${dtype} data`, where, lazy.byteLength);
    return Tensor.lazy(dtype, dims, () => fromRaw(lazy.read(), dtype, size, where) as never);
  }
  const raw = proto.rawData;
  // An empty raw_data may stand beside a typed field; writers differ.
  const data =
    dtype === 'string' || !raw || raw.byteLength === 0
      ? fromTypedField(proto, dtype, size, where)
      : fromRaw(raw, dtype, size, where);
  return new Tensor(dtype, data as never, dims);
}

/** The message of a tensor; its bytes are a view of the tensor's data, except that 4-bit elements are packed. */
export function tensorToProto(tensor: Tensor, name: string): TensorProto {
  const proto: TensorProto = { name, dims: [...tensor.dims], dataType: onnxCodeOf(tensor.type) };
  if (tensor.isLazy && tensor.type !== 'string') {
    setLazyBytes(proto, {
      byteLength: fileBytesOf(tensor.type, tensor.size),
      read: () => rawBytes(tensor),
    });
    return proto;
  }
  const { data } = tensor;
  if (Array.isArray(data)) proto.stringData = data.map((text) => new TextEncoder().encode(text));
  else proto.rawData = rawBytes(tensor);
  return proto;
}

function rawBytes(tensor: Tensor): Uint8Array {
  const data = tensor.data as Float32Array;
  if (isFourBit(tensor.type)) return packNibbles(tensor.data as Int8Array | Uint8Array);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function malformed(rule: string, where: string, received: unknown): Q8Error {
  return expected(rule, where, received, { code: 'ERR_Q8_BAD_MODEL' });
}

/** The bytes as they stand in the file: little-endian, which every platform of q8 is. */
function fromRaw(raw: Uint8Array, dtype: Exclude<DType, 'string'>, size: number, where: string): unknown {
  const bytes = fileBytesOf(dtype, size);
  if (raw.byteLength !== bytes) throw malformed(`${bytes} bytes of ${dtype} data`, where, raw.byteLength);
  if (isFourBit(dtype)) return unpackNibbles(raw, dtype, size);
  const elementBytes = bytesOf(dtype);
  if (raw.byteOffset % elementBytes === 0) return viewOf(dtype, raw.buffer, raw.byteOffset, size);
  const copy = new Uint8Array(raw.byteLength);
  copy.set(raw);
  return viewOf(dtype, copy.buffer, 0, size);
}

function fromTypedField(proto: TensorProto, dtype: DType, size: number, where: string): unknown {
  const field = typedField(proto, dtype);
  if (isFourBit(dtype)) {
    // Each element of the field is a byte, and so two codes.
    const bytes = Uint8Array.from(field as number[]);
    if (bytes.length !== fileBytesOf(dtype, size)) {
      throw malformed(`${fileBytesOf(dtype, size)} bytes of ${dtype} data`, where, bytes.length);
    }
    return unpackNibbles(bytes, dtype, size);
  }
  if (field.length !== size) throw malformed(`${size} elements of ${dtype} data`, where, field.length);
  if (dtype === 'string') {
    const decoder = new TextDecoder();
    return (field as Uint8Array[]).map((bytes) => decoder.decode(bytes));
  }
  const data = allocate(dtype, size);
  if (dtype === 'int64' || dtype === 'uint64') {
    for (let i = 0; i < size; i++)
      (data as BigInt64Array)[i] = toBigInt((field as NonNullable<TensorProto['int64Data']>)[i]);
  } else if (dtype === 'uint32') {
    for (let i = 0; i < size; i++) {
      (data as Uint32Array)[i] = Number(toBigInt((field as NonNullable<TensorProto['uint64Data']>)[i]));
    }
  } else if (dtype === 'bool') {
    for (let i = 0; i < size; i++) (data as Uint8Array)[i] = (field as number[])[i] === 0 ? 0 : 1;
  } else {
    (data as Float32Array).set(field as number[]);
  }
  return data;
}

/** The repeated field that holds elements of a type. */
function typedField(proto: TensorProto, dtype: DType): ArrayLike<unknown> {
  switch (dtype) {
    case 'float32':
      return proto.floatData ?? [];
    case 'float64':
      return proto.doubleData ?? [];
    case 'int64':
      return proto.int64Data ?? [];
    case 'uint32':
    case 'uint64':
      return proto.uint64Data ?? [];
    case 'string':
      return proto.stringData ?? [];
    default:
      return proto.int32Data ?? [];
  }
}
