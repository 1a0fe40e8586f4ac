/**
 * NumPy's .npy files (format versions 1 to 3) as tensors: little-endian, C order. Also writes them, for `q8 run`.
 */
import { expected, Q8Error } from '../errors';
import { bytesOf, type DType, type TypedArray, viewOf } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';

const MAGIC = '\x93NUMPY';

const DTYPES: Record<string, Exclude<DType, 'string'>> = {
  f2: 'float16',
  f4: 'float32',
  f8: 'float64',
  i1: 'int8',
  i2: 'int16',
  i4: 'int32',
  i8: 'int64',
  u1: 'uint8',
  u2: 'uint16',
  u4: 'uint32',
  u8: 'uint64',
  b1: 'bool',
};

/** What stands before the data of a .npy file. */
export interface NpyHeader {
  type: Exclude<DType, 'string'>;
  dims: readonly number[];
  /** Where the data starts, in bytes. */
  start: number;
}

/** Parses a whole .npy file. `name` is for messages. @throws ERR_Q8_INVALID_ARGUMENT when it is not one. */
export function parseNpy(bytes: Uint8Array, name: string): Tensor {
  const { type, dims, start } = parseNpyHeader(bytes, name);
  const length = sizeOf(dims) * bytesOf(type);
  if (bytes.length - start < length) {
    throw expected(`${length} bytes of data for the shape [${dims.join(', ')}]`, name, `${bytes.length - start} bytes`);
  }
  // A copy: typed arrays need aligned offsets.
  const data = new Uint8Array(bytes.subarray(start, start + length));
  return new Tensor(type, viewOf(type, data.buffer, 0, sizeOf(dims)), dims);
}

/** Parses the first bytes of a .npy file. @throws ERR_Q8_INVALID_ARGUMENT */
export function parseNpyHeader(bytes: Uint8Array, name: string): NpyHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || text(bytes.subarray(0, 6)) !== MAGIC) {
    throw expected('a .npy file', name, `${bytes.length} bytes that do not start with the NumPy magic`);
  }
  const isShort = bytes[6] === 1;
  const start = isShort ? 10 : 12;
  const end = start + (isShort ? view.getUint16(8, true) : view.getUint32(8, true));
  if (end > bytes.length) throw expected('a complete .npy header', name, `a file of ${bytes.length} bytes`);
  const { descr, isFortran, shape } = parseHeader(text(bytes.subarray(start, end)), name);
  if (isFortran) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `${name} is in Fortran order.`, {
      hint: 'save it with numpy.save(path, numpy.ascontiguousarray(array)).',
    });
  }
  const [, order, code] = /^([<>|=])(\w+)$/.exec(descr) ?? [];
  const dtype = DTYPES[code];
  if (dtype === undefined || order === '>') {
    throw expected(`one of the types ${Object.keys(DTYPES).join(', ')}, little-endian`, name, descr, {
      code: 'ERR_Q8_UNSUPPORTED_DTYPE',
    });
  }
  return { type: dtype, dims: shape, start: end };
}

/** The bytes of a .npy file (version 1) that holds the tensor. Strings have no such form. */
export function formatNpy(tensor: Tensor): Uint8Array {
  const [code] = Object.entries(DTYPES).find(([, dtype]) => dtype === tensor.type) ?? [];
  if (code === undefined) {
    throw expected('a numeric tensor', 'a .npy file', tensor.type, { code: 'ERR_Q8_UNSUPPORTED_DTYPE' });
  }
  const order = bytesOf(tensor.type) === 1 ? '|' : '<';
  const dims = tensor.dims.map((dim) => `${dim},`).join(' ');
  const dict = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${dims}), }`;
  const header = `${dict.padEnd(Math.ceil((dict.length + 11) / 64) * 64 - 11)}\n`;
  const data = tensor.data as TypedArray;
  const bytes = Buffer.alloc(10 + header.length + data.byteLength);
  bytes.write(`${MAGIC}\x01\x00`, 'latin1');
  bytes.writeUInt16LE(header.length, 8);
  bytes.write(header, 10, 'latin1');
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 10 + header.length);
  return bytes;
}

/** The header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }. */
function parseHeader(header: string, name: string): { descr: string; isFortran: boolean; shape: number[] } {
  const descr = /'descr'\s*:\s*'([^']+)'/.exec(header)?.[1];
  const order = /'fortran_order'\s*:\s*(True|False)/.exec(header)?.[1];
  const dims = /'shape'\s*:\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (descr === undefined || order === undefined || dims === undefined) {
    throw expected("a header with 'descr', 'fortran_order' and 'shape'", name, header.trim());
  }
  const shape = dims
    .split(',')
    .map((dim) => dim.trim())
    .filter((dim) => dim !== '')
    .map(Number);
  return { descr, isFortran: order === 'True', shape };
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
