/**
 * Tensors whose bytes are in side files. Reading turns them into ordinary tensors, each with its own pread; writing moves
 * large initializers to one side file. The paths and ranges come from the model and are not trusted: nothing outside the
 * model's folder is opened and nothing beyond the end of a file is read.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { expected, Q8Error } from '../errors';
import { dtypeFromOnnx, fileBytesOf, type DType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { lazyBytesOf, rawSizeOf, setLazyBytes } from './lazy-bytes';
import {
  DataLocation,
  type GraphProto,
  type ModelProto,
  type TensorProto,
  tensorsOfModel,
  toSafeInteger,
} from './proto';

/** Where external tensors are looked for: in memory first (by `location`), then in a folder. */
export interface ExternalSources {
  /** Side files already in memory, by the name that the model gives them. */
  externalData?: ReadonlyMap<string, Uint8Array> | Readonly<Record<string, Uint8Array>>;
  /** Folder of the side files. */
  baseDirectory?: string;
  /** Leave large tensors in their files until somebody reads them; the files must stay as they are. */
  isLazy?: boolean;
  /** Path of the model file, if it has one. When it is a link, side files next to its target are accepted too. */
  modelPath?: string;
}

/** One external tensor: where its bytes are, and how many there must be. */
interface Range {
  tensor: TensorProto;
  location: string;
  offset: number;
  length: number;
}

const KNOWN_KEYS = new Set(['location', 'offset', 'length', 'checksum', 'basepath']);
const ALIGNMENT = 4096;
/** Tensors of fewer bytes are always read at once. */
const MIN_LAZY_BYTES = 2 ** 16;
const readAsync = promisify(fs.read);

/**
 * Loads every external tensor of `model` into its raw_data. Returns the side files that were opened, by their real paths.
 * @throws ERR_Q8_BAD_MODEL for each broken rule.
 */
export async function loadExternalData(model: ModelProto, sources: ExternalSources): Promise<string[]> {
  const files = new SideFiles(sources);
  try {
    for (const range of externalRanges(model)) {
      const found = files.locate(range);
      if (found instanceof Uint8Array) attach(range.tensor, found);
      else if (sources.isLazy && range.length >= MIN_LAZY_BYTES) attachLazily(range, sources);
      else attach(range.tensor, await found.read());
    }
  } finally {
    files.close();
  }
  return files.paths;
}

/** {@link loadExternalData}, blocking. */
export function loadExternalDataSync(model: ModelProto, sources: ExternalSources): void {
  const files = new SideFiles(sources);
  try {
    for (const range of externalRanges(model)) {
      const found = files.locate(range);
      attach(range.tensor, found instanceof Uint8Array ? found : found.readSync());
    }
  } finally {
    files.close();
  }
}

function attach(tensor: TensorProto, bytes: Uint8Array): void {
  tensor.rawData = bytes;
  tensor.externalData = [];
  tensor.dataLocation = undefined;
}

/** Every rule is checked again with each read: files are opened only as long as it takes. */
function attachLazily(range: Range, sources: ExternalSources): void {
  const { tensor } = range;
  tensor.externalData = [];
  tensor.dataLocation = undefined;
  setLazyBytes(tensor, {
    byteLength: range.length,
    read() {
      const files = new SideFiles(sources);
      try {
        const found = files.locate(range);
        return found instanceof Uint8Array ? found : found.readSync();
      } finally {
        files.close();
      }
    },
  });
}

function* externalRanges(model: ModelProto): Generator<Range> {
  for (const tensor of tensorsOfModel(model)) {
    if (tensor.dataLocation === DataLocation.EXTERNAL) yield parseRange(tensor);
  }
}

function bad(rule: string, tensor: TensorProto, received: unknown, hint?: string): Q8Error {
  const name = `the external data of tensor ${JSON.stringify(tensor.name ?? '')}`;
  return expected(rule, name, received, { code: 'ERR_Q8_BAD_MODEL', hint });
}

function parseRange(tensor: TensorProto): Range {
  const entries = new Map<string, string>();
  for (const { key, value } of tensor.externalData ?? []) {
    const name = key ?? '';
    if (!KNOWN_KEYS.has(name)) throw bad(`only the keys ${[...KNOWN_KEYS].join(', ')}`, tensor, name);
    if (entries.has(name)) throw bad('each key once', tensor, name);
    entries.set(name, value ?? '');
  }
  const hasOwnBytes =
    (tensor.rawData?.length ?? 0) > 0 ||
    [
      tensor.floatData,
      tensor.int32Data,
      tensor.int64Data,
      tensor.doubleData,
      tensor.uint64Data,
      tensor.stringData,
    ].some((field) => (field?.length ?? 0) > 0);
  if (hasOwnBytes) throw bad('no bytes in the model itself', tensor, 'both');

  const dtype = dtypeFromOnnx(tensor.dataType ?? 0, `tensor ${JSON.stringify(tensor.name ?? '')}`);
  if (dtype === 'string') throw bad('a numeric type', tensor, dtype);
  const dims = (tensor.dims ?? []).map((dim) => toSafeInteger(dim, `a dimension of tensor "${tensor.name ?? ''}"`));
  if (dims.some((dim) => dim < 0)) throw bad('non-negative dimensions', tensor, dims);
  const bytes = byteSize(dims, dtype, tensor);

  const length = entries.has('length') ? parseCount(entries.get('length')!, 'length', tensor) : bytes;
  if (length !== bytes) throw bad(`a length of ${bytes} bytes (its type and dims)`, tensor, length);
  return {
    tensor,
    location: checkLocation(entries.get('location') ?? '', tensor),
    offset: entries.has('offset') ? parseCount(entries.get('offset')!, 'offset', tensor) : 0,
    length,
  };
}

function byteSize(dims: number[], dtype: DType, tensor: TensorProto): number {
  let elements: number;
  try {
    elements = sizeOf(dims);
  } catch {
    throw bad('a shape of less than 2^53 elements', tensor, dims);
  }
  return fileBytesOf(dtype, elements);
}

function parseCount(text: string, key: string, tensor: TensorProto): number {
  const count = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw bad(`a non-negative integer as ${key}`, tensor, text);
  return count;
}

/** A relative path without any step out of its folder, in the one spelling that every platform reads alike. */
function checkLocation(location: string, tensor: TensorProto): string {
  const parts = location.split('/').filter((part) => part !== '.');
  const contained =
    location !== '' &&
    !/[\\\0]/.test(location) &&
    !/^[A-Za-z]:/.test(location) &&
    parts.every((part) => part !== '' && part !== '..');
  if (!contained) {
    throw bad('a relative path inside the model folder', tensor, location, 'the file may have been tampered with.');
  }
  return parts.join('/');
}

interface FileRange {
  read(): Promise<Uint8Array>;
  readSync(): Uint8Array;
}

/** The side files of one model, each opened once. */
class SideFiles {
  readonly #sources: ExternalSources;
  readonly #open = new Map<string, { fd: number; size: number }>();
  /** Real paths of the files that were opened. */
  readonly paths: string[] = [];

  constructor(sources: ExternalSources) {
    this.#sources = sources;
  }

  /** The bytes of a range when they are in memory already, or the means to read them. */
  locate(range: Range): Uint8Array | FileRange {
    const inMemory = this.#inMemory(range.location);
    if (inMemory) {
      checkEnd(range, inMemory.byteLength);
      return inMemory.subarray(range.offset, range.offset + range.length);
    }
    const { fd, size } = this.#file(range);
    checkEnd(range, size);
    return {
      read: async () => {
        const bytes = new Uint8Array(range.length);
        for (let done = 0; done < range.length; ) {
          const { bytesRead } = await readAsync(fd, bytes, done, chunk(range.length - done), range.offset + done);
          done += checkProgress(bytesRead, range);
        }
        return bytes;
      },
      readSync: () => {
        const bytes = new Uint8Array(range.length);
        for (let done = 0; done < range.length; ) {
          const bytesRead = fs.readSync(fd, bytes, done, chunk(range.length - done), range.offset + done);
          done += checkProgress(bytesRead, range);
        }
        return bytes;
      },
    };
  }

  close(): void {
    for (const { fd } of this.#open.values()) fs.closeSync(fd);
    this.#open.clear();
  }

  #inMemory(location: string): Uint8Array | undefined {
    const given = this.#sources.externalData;
    if (given === undefined) return undefined;
    if (given instanceof Map) return given.get(location);
    const record = given as Readonly<Record<string, Uint8Array>>;
    return Object.hasOwn(record, location) ? record[location] : undefined;
  }

  #file(range: Range): { fd: number; size: number } {
    const known = this.#open.get(range.location);
    if (known) return known;
    const { baseDirectory, modelPath } = this.#sources;
    if (baseDirectory === undefined) {
      throw bad(
        'the bytes of its side file',
        range.tensor,
        range.location,
        'give a path, baseDirectory or externalData.',
      );
    }
    const opened = this.#openContained(range, baseDirectory, modelPath);
    this.#open.set(range.location, opened);
    return opened;
  }

  #openContained(range: Range, base: string, modelPath: string | undefined): { fd: number; size: number } {
    let real: string;
    let roots: string[];
    try {
      real = fs.realpathSync(path.join(base, range.location));
      roots = [fs.realpathSync(base)];
      if (modelPath !== undefined) roots.push(path.dirname(fs.realpathSync(modelPath)));
    } catch (cause) {
      throw new Q8Error(
        'ERR_Q8_BAD_MODEL',
        `The side file ${JSON.stringify(range.location)} of the model cannot be found.`,
        {
          hint: `it must be in ${JSON.stringify(base)}.`,
          cause,
        },
      );
    }
    if (!roots.some((root) => real.startsWith(root.endsWith(path.sep) ? root : root + path.sep))) {
      throw bad(
        'a file inside the model folder',
        range.tensor,
        range.location,
        'links that lead out of it are refused.',
      );
    }
    let fd: number;
    try {
      // Not following a link that appears after the check, and not waiting on a pipe.
      fd = fs.openSync(real, fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0) | (fs.constants.O_NONBLOCK ?? 0));
    } catch (cause) {
      throw new Q8Error(
        'ERR_Q8_BAD_MODEL',
        `The side file ${JSON.stringify(range.location)} of the model cannot be opened.`,
        {
          cause,
        },
      );
    }
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) {
      fs.closeSync(fd);
      throw bad('a regular file', range.tensor, range.location);
    }
    this.paths.push(real);
    return { fd, size: stat.size };
  }
}

function checkEnd(range: Range, size: number): void {
  if (range.offset + range.length > size) {
    throw bad(`a range within the ${size} bytes of its file`, range.tensor, `${range.offset}+${range.length}`);
  }
}

function checkProgress(bytesRead: number, range: Range): number {
  if (bytesRead === 0) throw bad('a file that does not shrink while it is read', range.tensor, range.location);
  return bytesRead;
}

/** Below the limit of one read() call. */
function chunk(left: number): number {
  return Math.min(left, 1 << 30);
}

/** A model whose large initializers are in a side file, and what to write there. */
export interface ExternalizedModel {
  model: ModelProto;
  /** Bytes of the side file in order; `offset` is a multiple of 4096. */
  segments: { offset: number; byteLength: number; read(): Uint8Array }[];
}

/** Moves initializers of at least `threshold` bytes out of the model. The given model stays as it is. */
export function externalize(model: ModelProto, location: string, threshold: number): ExternalizedModel {
  const segments: ExternalizedModel['segments'] = [];
  let end = 0;
  const initializer = (model.graph?.initializer ?? []).map((tensor): TensorProto => {
    const byteLength = rawSizeOf(tensor);
    if (byteLength === 0 || byteLength < threshold) return tensor;
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = offset + byteLength;
    segments.push({ offset, byteLength, read: () => lazyBytesOf(tensor)?.read() ?? tensor.rawData! });
    return {
      name: tensor.name,
      dims: tensor.dims,
      dataType: tensor.dataType,
      dataLocation: DataLocation.EXTERNAL,
      externalData: [
        { key: 'location', value: location },
        { key: 'offset', value: String(offset) },
        { key: 'length', value: String(byteLength) },
      ],
    };
  });
  const graph: GraphProto = { ...model.graph, initializer };
  return { model: { ...model, graph }, segments };
}
