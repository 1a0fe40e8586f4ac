/** Arrays whose first axis counts samples, cut into tensors of an input's batch size, shape and type. */
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { expected } from '../errors';
import { tensorFromProto } from '../graph/tensor-proto';
import { onnx } from '../onnx/onnx-proto';
import { bytesOf, viewOf } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { parseIdx } from './idx';
import { type InputSpec, type Normalization, needsNormalization, normalize } from './inputs';
import { type NpyHeader, parseNpyHeader } from './npy';

/** An array that is read piece by piece along its first axis. */
export interface ArraySource {
  readonly type: Tensor['type'];
  readonly dims: readonly number[];
  /** Elements `begin` to `end` of the flat array. */
  read(begin: number, end: number): Promise<Tensor['data']>;
  close(): Promise<void>;
}

/** The tensor of a .pb file (an ONNX TensorProto). @throws ERR_Q8_BAD_MODEL */
export async function readTensorProto(path: string): Promise<Tensor> {
  const bytes = await readFile(path);
  let proto: Parameters<typeof tensorFromProto>[0];
  try {
    proto = onnx.TensorProto.decode(bytes);
  } catch (cause) {
    throw expected('an ONNX TensorProto', path, (cause as Error).message, { cause });
  }
  return tensorFromProto(proto, path);
}

/** Opens a .npy, .pb or IDX file. Of .npy files only what is asked for is read; the others are held whole. */
export async function openArray(path: string): Promise<ArraySource> {
  if (path.endsWith('.npy')) return openNpy(path);
  if (path.endsWith('.pb')) return inMemory(await readTensorProto(path));
  if (isIdx(path)) return inMemory(parseIdx(await readFile(path), path));
  throw expected('a .npy, .npz, .pb, IDX, .jsonl or image file, or a folder of them', 'the data', path);
}

export function isIdx(path: string): boolean {
  return /idx\d?(-ubyte)?(\.gz)?$/.test(path);
}

export function inMemory(tensor: Tensor): ArraySource {
  const data = tensor.data as Float32Array;
  return {
    type: tensor.type,
    dims: tensor.dims,
    read: async (begin, end) => data.slice(begin, end),
    close: async () => {},
  };
}

async function openNpy(path: string): Promise<ArraySource> {
  const file = await open(path);
  let header: NpyHeader;
  try {
    // Longer headers exist only for structured types, which are refused.
    const start = await readBytes(file, 0, 4096);
    header = parseNpyHeader(start, path);
    const { size } = await file.stat();
    const wanted = sizeOf(header.dims) * bytesOf(header.type);
    if (size - header.start < wanted) {
      throw expected(
        `${wanted} bytes of data for the shape [${header.dims.join(', ')}]`,
        path,
        `${size - header.start} bytes`,
      );
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  const { type, dims, start } = header;
  const width = bytesOf(type);
  return {
    type,
    dims,
    read: async (begin, end) => {
      const bytes = await readBytes(file, start + begin * width, (end - begin) * width);
      return viewOf(type, bytes.buffer, 0, end - begin);
    },
    close: () => file.close(),
  };
}

/** Up to `length` bytes from `position`, in a buffer of their own. */
async function readBytes(file: FileHandle, position: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 2 ** 30), position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done === length ? bytes : bytes.subarray(0, done);
}

/** How an array is cut for an input. */
export interface Cut {
  count: number;
  /** Elements of a piece. */
  size: number;
  /** Dims of a piece. */
  dims: readonly number[];
}

/** @throws ERR_Q8_SHAPE_MISMATCH when the array's samples do not have the input's shape. */
export function cutFor({ dims }: ArraySource, input: InputSpec, path: string): Cut {
  const batch = typeof input.shape[0] === 'number' ? input.shape[0] : 1;
  const wanted = input.shape.slice(1);
  const matches = (shape: readonly number[]): boolean =>
    shape.length === wanted.length && wanted.every((dim, i) => typeof dim === 'string' || dim === shape[i]);
  // One sample without an axis that counts.
  if (batch === 1 && dims.length === wanted.length && dims.length > 0 && matches(dims)) {
    return { count: 1, size: sizeOf(dims), dims: [1, ...dims] };
  }
  const own = dims.slice(1);
  const sample = matches(own)
    ? own
    : dims.length > 0 && wanted.every((dim) => typeof dim === 'number') && sizeOf(wanted) === sizeOf(own)
      ? wanted
      : undefined;
  if (sample === undefined || dims.length === 0) {
    throw expected(`samples of shape [${wanted.join(', ')}] for the input ${JSON.stringify(input.name)}`, path, dims, {
      code: 'ERR_Q8_SHAPE_MISMATCH',
    });
  }
  const count = batch > 0 ? Math.floor(dims[0] / batch) : 0;
  return { count, size: batch * sizeOf(sample), dims: [batch, ...sample] };
}

/** Piece `index` of an array, as the input takes it. */
export async function readPiece(
  array: ArraySource,
  { size, dims }: Cut,
  index: number,
  input: InputSpec,
  path: string,
  normalization: Normalization | undefined,
): Promise<Tensor> {
  const data = await array.read(index * size, (index + 1) * size);
  return convert(new Tensor(array.type, data as Float32Array, dims), input, path, normalization);
}

function convert(tensor: Tensor, input: InputSpec, path: string, normalization: Normalization | undefined): Tensor {
  if (tensor.type === input.type) return tensor;
  if (input.type === 'float32' && tensor.type === 'float64') {
    return new Tensor('float32', Float32Array.from(tensor.data as Float64Array), tensor.dims);
  }
  if (input.type !== 'float32' || tensor.type !== 'uint8') {
    throw expected(`${input.type} for the input ${JSON.stringify(input.name)}`, path, tensor.type, {
      code: 'ERR_Q8_UNSUPPORTED_DTYPE',
    });
  }
  if (!normalization) throw needsNormalization(path, input);
  const pixels = tensor.data as Uint8Array;
  const channels = tensor.dims[1] ?? 1;
  return new Tensor('float32', normalize(pixels, channels, sizeOf(tensor.dims.slice(2)), normalization), tensor.dims);
}
