/**
 * Tensor: dense, row-major data with a dtype and dims, with the public shape of onnxruntime-common's Tensor, so that code
 * written for it runs unchanged. Used for feeds and results, and inside for constants.
 */
import { expected, Q8Error } from '../errors';
import { allocate, type DataOf, type DType, DTYPES, isDataOf } from './dtype';
import { sizeOf } from './shape';

export class Tensor<T extends DType = DType> {
  readonly type: T;
  readonly dims: readonly number[];
  readonly size: number;
  #data: DataOf[T] | null;
  #load: (() => DataOf[T]) | null = null;

  /** `new Tensor(type, data, dims?)`; without dims the tensor is 1-D. The data is not copied. */
  constructor(
    type: T,
    data: DataOf[T] | readonly number[] | readonly bigint[] | readonly boolean[],
    dims?: readonly number[],
  );
  /** `new Tensor(data, dims?)`; the type follows from the array (Float32Array -> float32, string[] -> string, ...). */
  constructor(data: DataOf[T] | readonly string[] | readonly boolean[], dims?: readonly number[]);
  constructor(first: unknown, second?: unknown, third?: unknown) {
    let type: DType;
    let data: unknown;
    let dims: unknown;
    if (typeof first === 'string') {
      if (!DTYPES.includes(first as DType))
        throw expected(`one of ${DTYPES.join(', ')}`, 'the type of a Tensor', first);
      type = first as DType;
      data = second;
      dims = third;
    } else {
      type = typeFromData(first);
      data = first;
      dims = second;
    }
    if (Array.isArray(data) && type !== 'string') data = fromPlainArray(type, data);
    if (!isDataOf(type, data)) {
      throw expected(`a ${storageName(type)}`, `the data of a ${type} Tensor`, data, {
        code: 'ERR_Q8_UNSUPPORTED_DTYPE',
      });
    }
    const storage = data as DataOf[DType];
    const shape = dims === undefined ? [storage.length] : checkDims(dims);
    const size = sizeOf(shape);
    if (size !== storage.length) {
      throw new Q8Error(
        'ERR_Q8_SHAPE_MISMATCH',
        `Tensor's size(${size}) does not match data length(${storage.length}); dims are [${shape.join(', ')}].`,
      );
    }
    this.type = type as T;
    this.dims = shape;
    this.size = size;
    this.#data = (
      storage instanceof Uint8ClampedArray
        ? new Uint8Array(storage.buffer, storage.byteOffset, storage.length)
        : storage
    ) as DataOf[T];
  }

  /** A zero-filled tensor. */
  static zeros<T extends DType>(type: T, dims: readonly number[]): Tensor<T> {
    return new Tensor(type, allocate(type, sizeOf(dims)), dims);
  }

  /**
   * A tensor whose data is loaded when it is asked for, and again when it has been forgotten since: for constants that need
   * not be in memory all at once. `load` must always give the same data, of the right size.
   */
  static lazy<T extends DType>(type: T, dims: readonly number[], load: () => DataOf[T]): Tensor<T> {
    const tensor = new Tensor(type, allocate(type, 0), [0]);
    Object.assign(tensor, { dims: [...dims], size: sizeOf(dims) });
    tensor.#data = null;
    tensor.#load = load;
    return tensor;
  }

  /** Whether the data is loaded anew when needed: reading it may mean reading a file. */
  get isLazy(): boolean {
    return this.#load !== null;
  }

  /** The elements, row-major. @throws ERR_Q8_DISPOSED after dispose(). */
  get data(): DataOf[T] {
    if (this.#load) return recentlyLoaded(this, this.#load) as DataOf[T];
    if (this.#data === null) throw new Q8Error('ERR_Q8_DISPOSED', 'The tensor is disposed.');
    return this.#data;
  }

  /** Where the data lives: always "cpu" ("none" once disposed). */
  get location(): 'cpu' | 'none' {
    return this.#data === null && !this.#load ? 'none' : 'cpu';
  }

  /** The data, as a promise, for code written for other backends; `releaseData` disposes the tensor. */
  async getData(releaseData = false): Promise<DataOf[T]> {
    const { data } = this;
    if (releaseData) this.dispose();
    return data;
  }

  /** The same data under other dims of equal size. */
  reshape(dims: readonly number[]): Tensor<T> {
    if (this.#load && sizeOf(dims) === this.size) return Tensor.lazy(this.type, dims, () => this.data);
    return new Tensor<T>(this.type, this.data, dims);
  }

  /** Drops the reference to the data. Idempotent. */
  dispose(): void {
    this.#data = null;
    this.#load = null;
  }
}

/** Lazy tensors whose data is kept, the latest first: loops read `data` element by element, often of two at once. */
const loaded: { tensor: Tensor; data: DataOf[DType] }[] = [];
const MAX_LOADED = 2;

/** Drops what lazy tensors have loaded last. */
export function forgetLoaded(): void {
  loaded.length = 0;
}

function recentlyLoaded(tensor: Tensor, load: () => DataOf[DType]): DataOf[DType] {
  if (loaded[0]?.tensor === tensor) return loaded[0].data;
  const at = loaded.findIndex((entry) => entry.tensor === tensor);
  const [entry] = at < 0 ? [{ tensor, data: load() }] : loaded.splice(at, 1);
  loaded.unshift(entry);
  loaded.length = Math.min(loaded.length, MAX_LOADED);
  return entry.data;
}

function typeFromData(data: unknown): DType {
  if (Array.isArray(data)) {
    const kind = typeof data[0];
    if (kind === 'string') return 'string';
    if (kind === 'boolean') return 'bool';
    throw expected('an array of strings or booleans, or a typed array', 'the data of a Tensor', data, {
      hint: 'give the type first for plain numbers: new Tensor("float32", [1, 2], [2]).',
    });
  }
  for (const type of [
    'float32',
    'uint8',
    'int8',
    'uint16',
    'int16',
    'int32',
    'int64',
    'float64',
    'uint32',
    'uint64',
  ] as const) {
    if (isDataOf(type, data)) return type;
  }
  throw expected('a typed array', 'the data of a Tensor', data);
}

function fromPlainArray(type: DType, values: unknown[]): DataOf[DType] {
  const data = allocate(type, values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (type === 'bool') (data as Uint8Array)[i] = value ? 1 : 0;
    else if (type === 'int64' || type === 'uint64') {
      if (typeof value !== 'bigint' && !Number.isSafeInteger(value))
        throw expected('integers', `the data of a ${type} Tensor`, value);
      (data as BigInt64Array)[i] = BigInt(value as number | bigint);
    } else {
      if (typeof value !== 'number') throw expected('numbers', `the data of a ${type} Tensor`, value);
      (data as Float64Array)[i] = value;
    }
  }
  return data;
}

function checkDims(dims: unknown): number[] {
  if (!Array.isArray(dims)) throw expected('an array', 'the dims of a Tensor', dims);
  for (const dim of dims) {
    if (!Number.isSafeInteger(dim) || dim < 0) throw expected('non-negative integers', 'the dims of a Tensor', dims);
  }
  return [...dims];
}

function storageName(type: DType): string {
  return type === 'string' ? 'string[]' : (allocate(type, 0) as object).constructor.name;
}
