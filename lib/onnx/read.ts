/**
 * Reads a model: bytes or a file to a ModelProto. Whatever the bytes are, the outcome is a ModelProto or a Q8Error: the
 * decoder is bounded by the bytes and by 100 levels of nesting. What the model means is lib/graph/from-proto.ts.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { checkOptionKeys, expected, Q8Error } from '../errors';
import { type ExternalSources, loadExternalData, loadExternalDataSync } from './external-data';
import { onnx } from './onnx-proto';
import { type ModelProto, toSafeInteger } from './proto';

export type ReadOptions = Pick<ExternalSources, 'externalData' | 'baseDirectory' | 'isLazy'>;

/** A model as read from a file or from bytes. */
export interface LoadedModel {
  /**
   * The message. Its raw tensor bytes are views of the bytes it was read from (which must not change while it is in use),
   * or of buffers read from side files; no tensor is external any more.
   */
  model: ModelProto;
  /** The message itself, without side files. */
  bytes: Uint8Array;
  /** The file, when it came from one. */
  path?: string;
  /** Real paths of its side files, when they were files and read asynchronously. */
  sideFiles?: string[];
}

/** Protobuf lengths are signed 32-bit integers. */
export const MAX_MESSAGE_BYTES = 2 ** 31 - 1;

const OPTION_KEYS = new Set(['externalData', 'baseDirectory', 'isLazy']);

/**
 * Reads an ONNX model from a path or from its bytes, with its side files. Side files of a model given as bytes must come
 * as `externalData` or be in `baseDirectory`; those of a path are looked for beside it.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT when there is no such file, ERR_Q8_BAD_MODEL when the bytes are not a model.
 */
export async function readModel(source: string | Uint8Array, options: ReadOptions = {}): Promise<LoadedModel> {
  checkOptionKeys(options, OPTION_KEYS, 'readModel()');
  if (typeof source !== 'string') {
    const model = decodeModel(source);
    await loadExternalData(model, options);
    return { model, bytes: source };
  }
  let bytes: Uint8Array;
  try {
    // Before it is opened: opening a pipe would wait for a writer.
    const stat = await fs.promises.stat(source);
    checkFile(stat, source);
    bytes = await readBytes(source, stat.size);
  } catch (error) {
    throw fileError(error, source);
  }
  const model = decodeModel(bytes);
  const sideFiles = await loadExternalData(model, sourcesOf(source, options));
  return { model, bytes, path: source, sideFiles };
}

/** {@link readModel}, blocking. */
export function readModelSync(source: string | Uint8Array, options: ReadOptions = {}): LoadedModel {
  checkOptionKeys(options, OPTION_KEYS, 'readModelSync()');
  if (typeof source !== 'string') {
    const model = decodeModel(source);
    loadExternalDataSync(model, options);
    return { model, bytes: source };
  }
  let bytes: Uint8Array;
  try {
    checkFile(fs.statSync(source), source);
    bytes = fs.readFileSync(source);
  } catch (error) {
    throw fileError(error, source);
  }
  const model = decodeModel(bytes);
  loadExternalDataSync(model, sourcesOf(source, options));
  return { model, bytes, path: source };
}

/** The message in `bytes`; external tensors are left external. @throws ERR_Q8_BAD_MODEL */
export function decodeModel(bytes: Uint8Array): ModelProto {
  if (!(bytes instanceof Uint8Array)) throw expected('a path or a Uint8Array', 'the model', bytes);
  checkSize(bytes.byteLength);
  let model: ModelProto;
  try {
    model = onnx.ModelProto.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (cause) {
    throw new Q8Error('ERR_Q8_BAD_MODEL', `The ${bytes.byteLength} bytes are not an ONNX model: ${messageOf(cause)}.`, {
      hint: 'the file is truncated, damaged, or something else than ONNX.',
      cause,
    });
  }
  if (!model.graph) {
    throw expected('a graph', 'the model', 'none', {
      code: 'ERR_Q8_BAD_MODEL',
      hint: 'the file is truncated, damaged, or something else than ONNX.',
    });
  }
  toSafeInteger(model.irVersion, 'the IR version of the model');
  return model;
}

function sourcesOf(source: string, options: ReadOptions): ExternalSources {
  return { ...options, baseDirectory: options.baseDirectory ?? path.dirname(source), modelPath: source };
}

/** The first `size` bytes of a file, in one piece: readFile() goes to the thread pool and back for every half MiB. */
async function readBytes(source: string, size: number): Promise<Uint8Array> {
  const file = await fs.promises.open(source);
  try {
    const bytes = Buffer.allocUnsafeSlow(size);
    let length = 0;
    while (length < size) {
      const { bytesRead } = await file.read(bytes, length, size - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return bytes.subarray(0, length);
  } finally {
    await file.close();
  }
}

function checkFile(stat: fs.Stats, source: string): void {
  if (!stat.isFile()) throw expected('the path of a file', 'the model', source);
  checkSize(stat.size);
}

function checkSize(bytes: number): void {
  if (bytes === 0) throw expected('a model', 'the file', 'no bytes', { code: 'ERR_Q8_BAD_MODEL' });
  if (bytes > MAX_MESSAGE_BYTES) {
    throw expected('less than 2 GiB', 'the model', `${bytes} bytes`, {
      code: 'ERR_Q8_BAD_MODEL',
      hint: 'larger models keep their tensors in a side file (external data).',
    });
  }
}

function fileError(error: unknown, source: string): Q8Error {
  if (error instanceof Q8Error) return error;
  return new Q8Error(
    'ERR_Q8_INVALID_ARGUMENT',
    `The model ${JSON.stringify(source)} cannot be read: ${messageOf(error)}.`,
    {
      hint: 'give the path of an .onnx file, or its bytes.',
      cause: error,
    },
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
