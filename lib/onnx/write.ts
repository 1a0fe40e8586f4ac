/**
 * Writes a model: ModelProto to bytes or to a file, with a side file for large tensors if wanted. The same model always
 * gives the same bytes.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { checkOptionKeys, expected } from '../errors';
import { externalize } from './external-data';
import { lazyBytesOf, rawSizeOf } from './lazy-bytes';
import { onnx } from './onnx-proto';
import { type ModelProto, tensorsOfModel } from './proto';
import { MAX_MESSAGE_BYTES } from './read';

export interface ExternalDataOptions {
  /** Initializers of at least so many bytes go to the side file. Default 1024. */
  threshold?: number;
  /** Name of the side file, in the folder of the model. Default: the model's file name + ".data". */
  location?: string;
}

export interface WriteOptions {
  /** Whether large initializers go to a side file. Default: only when the model would not fit in 2 GiB. */
  externalData?: boolean | ExternalDataOptions;
}

/**
 * Refuses to write a model over the files that it is read from: tensors are fetched from them while it is written.
 * @throws ERR_Q8_INVALID_ARGUMENT
 */
export function keepFiles(inputs: readonly string[], output: string, { externalData }: WriteOptions): void {
  const location = typeof externalData === 'object' ? externalData.location : undefined;
  const side = path.join(path.dirname(output), location ?? `${path.basename(output)}.data`);
  const kept = new Set(inputs.map(realPathOf));
  for (const target of [output, side]) {
    if (kept.has(realPathOf(target))) throw expected('a file that is no part of the input', 'the output', target);
  }
}

function realPathOf(file: string): string {
  return fs.existsSync(file) ? fs.realpathSync(file) : path.resolve(file);
}

/** Bytes left for everything that is not a tensor when choosing between one file and two. */
const HEADROOM = 64 * 2 ** 20;

/** The bytes of a model. @throws ERR_Q8_INVALID_ARGUMENT when they would exceed 2 GiB. */
export function writeModel(model: ModelProto): Uint8Array {
  if (tensorBytes(model) > MAX_MESSAGE_BYTES) throw tooLarge(tensorBytes(model));
  const bytes = onnx.ModelProto.encode(fetched(model)).finish();
  if (bytes.byteLength > MAX_MESSAGE_BYTES) throw tooLarge(bytes.byteLength);
  // In Node protobufjs gives a Buffer, whose slice() shares memory; callers were promised a Uint8Array.
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Writes a model to a file, and its side file if it has one. Returns the paths written, the model first. A side file is
 * complete before the model that names it appears.
 */
export async function writeModelFile(model: ModelProto, file: string, options: WriteOptions = {}): Promise<string[]> {
  checkOptionKeys(options, new Set(['externalData']), 'writeModelFile()');
  const wanted = options.externalData ?? tensorBytes(model) > MAX_MESSAGE_BYTES - HEADROOM;
  if (wanted === false) {
    await fs.promises.writeFile(file, writeModel(model));
    return [file];
  }
  const settings = wanted === true ? {} : wanted;
  checkOptionKeys(settings, new Set(['threshold', 'location']), 'externalData');
  const { threshold = 1024, location = `${path.basename(file)}.data` } = settings;
  if (!Number.isSafeInteger(threshold) || threshold < 0) {
    throw expected('a non-negative integer', 'externalData.threshold', threshold);
  }
  if (
    location !== path.basename(location) ||
    location === '' ||
    location === '..' ||
    location === path.basename(file)
  ) {
    throw expected('a file name other than that of the model', 'externalData.location', location);
  }
  const { model: slim, segments } = externalize(model, location, threshold);
  if (segments.length === 0) {
    await fs.promises.writeFile(file, writeModel(slim));
    return [file];
  }
  const side = path.join(path.dirname(file), location);
  const handle = await fs.promises.open(side, 'w');
  try {
    for (const { offset, read } of segments) {
      // One tensor in memory at a time.
      const bytes = read();
      for (let done = 0; done < bytes.byteLength; ) {
        const { bytesWritten } = await handle.write(
          bytes,
          done,
          Math.min(bytes.byteLength - done, 2 ** 30),
          offset + done,
        );
        done += bytesWritten;
      }
    }
  } finally {
    await handle.close();
  }
  await fs.promises.writeFile(file, writeModel(slim));
  return [file, side];
}

/** The model with lazy bytes in place; a copy where there are some. */
function fetched(model: ModelProto): ModelProto {
  const initializers = model.graph?.initializer ?? [];
  if (!initializers.some(lazyBytesOf)) return model;
  const initializer = initializers.map((tensor) => {
    const lazy = lazyBytesOf(tensor);
    return lazy ? { ...tensor, rawData: lazy.read() } : tensor;
  });
  return { ...model, graph: { ...model.graph, initializer } };
}

/** Models up to this size are encoded to see how large they are: exact, and cheap enough. */
const ENCODED_FOR_SIZE = 2 ** 26;

/**
 * Bytes that a model takes on the disk: exactly, or for a large one the side file included, without the gaps between its
 * tensors and with what it takes to refer to them.
 */
export function modelSize(model: ModelProto): number {
  if (tensorBytes(model) <= ENCODED_FOR_SIZE) return writeModel(model).byteLength;
  const { model: slim, segments } = externalize(model, '', 1);
  return writeModel(slim).byteLength + segments.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function tensorBytes(model: ModelProto): number {
  let bytes = 0;
  for (const tensor of tensorsOfModel(model)) bytes += rawSizeOf(tensor);
  return bytes;
}

function tooLarge(bytes: number) {
  return expected('less than 2 GiB', 'the model', `${bytes} bytes`, {
    hint: 'write it to a path with externalData.',
  });
}
