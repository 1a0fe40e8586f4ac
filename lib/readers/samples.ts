/**
 * Feeds for a model out of files, one at a time: arrays (.npy, .npz, IDX), ONNX test data (.pb), JSON lines, pictures, and
 * folders of them. Used as calibration data, and by the commands that run and compare models.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { checkOptionKeys, expected } from '../errors';
import { Tensor } from '../tensor/tensor';
import { type ArraySource, cutFor, inMemory, isIdx, openArray, readPiece, readTensorProto } from './arrays';
import { type ImageOptions, isImage, readImage } from './images';
import type { Feed, InputSpec, Normalization } from './inputs';
import { readJsonLines } from './json-lines';
import { parseNpz } from './npz';
import { randomFeeds } from './random';

/** Feeds that can be gone through any number of times, each time read anew. Holds one of them at a time. */
export interface Samples extends AsyncIterable<Feed> {
  /** How many there are, once that is known without reading them. */
  readonly length: number | undefined;
}

/** Gives the samples for a model with these inputs. What the option `calibration` of quantize() takes. */
export type SampleSource = (inputs: readonly InputSpec[]) => Samples;

export interface SampleOptions extends ImageOptions {
  /** See {@link Normalization}; with either, the other defaults to 0 and 1. Raw pixels 0 to 255: std 1 / 255. */
  mean?: number | readonly number[];
  std?: number | readonly number[];
  /** At most so many feeds. */
  limit?: number;
}

export interface RandomOptions {
  /** Seed of the numbers. Default 1. */
  seed?: number;
  /** Shapes of inputs that leave dimensions open (the first one is 1 then). */
  shapes?: Readonly<Record<string, readonly number[]>>;
}

const SAMPLE_KEYS: Record<keyof SampleOptions, true> = {
  mean: true,
  std: true,
  limit: true,
  size: true,
  fit: true,
  layout: true,
  color: true,
};

/**
 * Samples of a file or folder.
 *
 * - .npy, .npz, IDX: the first axis counts samples; they are cut into feeds of the model's batch size, or of one sample when
 *   it is free. Models of several inputs need .npz, with an array for each input.
 * - .jsonl: a feed a line; see lib/readers/json-lines.ts.
 * - pictures (PNG, JPEG, WebP, GIF, TIFF, AVIF), by the package sharp; see {@link ImageOptions}.
 * - folders: all of these, subfolders included, in the order of their names, numbers in names counting as numbers. A folder
 *   with input_0.pb, input_1.pb... is one feed: ONNX test data.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT for wrong options, at once; while reading, for files that do not fit the inputs.
 */
export function readSamples(path: string, options: SampleOptions = {}): SampleSource {
  if (typeof path !== 'string') throw expected('a path', 'the first argument of readSamples()', path);
  const settings = resolve(options);
  return (inputs) => new FileSamples(path, inputs, settings);
}

/** `count` samples of random numbers: normally distributed floats, integers 0 and 1. */
export function randomSamples(count: number, { seed = 1, shapes = {} }: RandomOptions = {}): SampleSource {
  if (!Number.isSafeInteger(count) || count < 1) throw expected('a positive integer', 'the number of samples', count);
  const shapeOf = new Map(Object.entries(shapes));
  return (inputs) => ({
    length: count,
    async *[Symbol.asyncIterator]() {
      yield* randomFeeds(inputs, count, shapeOf, seed);
    },
  });
}

/** Reads one tensor from a .npy, .pb or IDX file. */
export async function readTensor(path: string): Promise<Tensor> {
  const array = await openArray(path);
  try {
    const size = array.dims.reduce((a, b) => a * b, 1);
    return new Tensor(array.type, (await array.read(0, size)) as Float32Array, array.dims);
  } finally {
    await array.close();
  }
}

interface Settings extends ImageOptions {
  normalization?: Normalization;
  limit: number;
}

function resolve(options: SampleOptions): Settings {
  checkOptionKeys(options, new Set(Object.keys(SAMPLE_KEYS)), 'readSamples()');
  const { mean, std, limit = Number.POSITIVE_INFINITY, size, fit, layout, color } = options;
  const choices: [string, unknown, readonly string[]][] = [
    ['fit', fit, ['cover', 'contain', 'fill']],
    ['layout', layout, ['nchw', 'nhwc']],
    ['color', color, ['rgb', 'bgr']],
  ];
  for (const [name, value, allowed] of choices) {
    if (value === undefined || allowed.includes(value as string)) continue;
    throw expected(`one of ${allowed.map((v) => JSON.stringify(v)).join(', ')}`, `the option ${name}`, value);
  }
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0;
  if (limit !== Number.POSITIVE_INFINITY && !isCount(limit)) {
    throw expected('a positive integer', 'the option limit', limit);
  }
  if (size !== undefined && !(Array.isArray(size) && size.length === 2 && size.every(isCount))) {
    throw expected('[height, width]', 'the option size', size);
  }
  return { limit, size, fit, layout, color, normalization: normalizationOf(mean, std) };
}

function normalizationOf(mean: SampleOptions['mean'], std: SampleOptions['std']): Normalization | undefined {
  if (mean === undefined && std === undefined) return undefined;
  const [means, deviations] = [mean ?? 0, std ?? 1].map((values) =>
    typeof values === 'number' ? [values] : [...values],
  );
  if (!means.every(Number.isFinite)) throw expected('finite numbers', 'the option mean', means);
  if (!deviations.every((value) => Number.isFinite(value) && value !== 0)) {
    throw expected('finite numbers other than 0', 'the option std', deviations);
  }
  return { mean: means, std: deviations };
}

class FileSamples implements Samples {
  readonly #path: string;
  readonly #inputs: readonly InputSpec[];
  readonly #settings: Settings;
  length: number | undefined;

  constructor(path: string, inputs: readonly InputSpec[], settings: Settings) {
    this.#path = path;
    this.#inputs = inputs;
    this.#settings = settings;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Feed> {
    const files = await filesOf(this.#path);
    const { limit } = this.#settings;
    // A picture or a folder of test data is one sample; what other files hold is seen when they are opened.
    const isOneEach = files.every((file) => typeof file !== 'string' || isImage(file));
    if (isOneEach) this.length = Math.min(files.length, limit);
    let count = 0;
    for (const file of files) {
      for await (const feed of this.#read(file, files.length === 1)) {
        yield feed;
        if (++count === limit) return;
      }
    }
    if (count === 0) throw expected('at least one sample', this.#path, 'none');
  }

  #read(file: DataFile, isOnly: boolean): AsyncIterable<Feed> {
    const inputs = this.#inputs;
    if (typeof file !== 'string') return readProtoSet(file, inputs);
    if (/\.(jsonl|ndjson)$/.test(file)) return readJsonLines(file, inputs);
    if (isImage(file)) return this.#readImage(file);
    return this.#readArrays(file, isOnly);
  }

  async *#readImage(file: string): AsyncGenerator<Feed> {
    const input = onlyInput(this.#inputs, file);
    yield { [input.name]: await readImage(file, input, this.#settings, this.#settings.normalization) };
  }

  async *#readArrays(file: string, isOnly: boolean): AsyncGenerator<Feed> {
    const { normalization, limit } = this.#settings;
    const arrays = file.endsWith('.npz')
      ? await openNpz(file, this.#inputs)
      : new Map([[onlyInput(this.#inputs, file), await openArray(file)]]);
    try {
      const columns = [...arrays].map(([input, array]) => ({ input, array, cut: cutFor(array, input, file) }));
      const count = Math.min(...columns.map(({ cut }) => cut.count));
      if (isOnly && count > 0) this.length = Math.min(count, limit);
      for (let i = 0; i < count; i++) {
        const feed: Feed = {};
        for (const { input, array, cut } of columns) {
          feed[input.name] = await readPiece(array, cut, i, input, file, normalization);
        }
        yield feed;
      }
    } finally {
      for (const array of arrays.values()) await array.close();
    }
  }
}

/** A file, or the files of one ONNX test data set. */
type DataFile = string | readonly string[];

/** All data below `path`, in the order in which it is read. */
async function filesOf(path: string): Promise<DataFile[]> {
  let isDirectory: boolean;
  try {
    isDirectory = (await stat(path)).isDirectory();
  } catch (cause) {
    throw expected('the path of a file or folder', 'the data', path, { cause });
  }
  if (!isDirectory) return [path];
  const entries = (await readdir(path, { withFileTypes: true })).sort((a, b) => compareNames(a.name, b.name));
  const pbs = entries.filter((entry) => /^input_\d+\.pb$/.test(entry.name)).map(({ name }) => join(path, name));
  if (pbs.length > 0) return [pbs];
  const files: DataFile[] = [];
  for (const entry of entries) {
    const child = join(path, entry.name);
    // Links count as what they point to.
    if ((await stat(child)).isDirectory()) files.push(...(await filesOf(child)));
    else if (/\.(npy|npz|pb|jsonl|ndjson)$/.test(child) || isImage(child) || isIdx(child)) files.push(child);
  }
  return files;
}

/** ONNX's test data: input_0.pb, input_1.pb, ... in the order of the model's inputs. */
async function* readProtoSet(files: readonly string[], inputs: readonly InputSpec[]): AsyncGenerator<Feed> {
  const feed: Feed = {};
  for (const file of files) {
    const input = inputs[Number(/\d+/.exec(basename(file))?.[0])];
    if (input) feed[input.name] = await readTensorProto(file);
  }
  const missing = inputs.filter(({ name }) => !(name in feed));
  if (missing.length > 0) {
    throw expected(
      `a file for each of ${inputs.length} inputs`,
      dirname(files[0]),
      `none for ${missing.map(({ name }) => JSON.stringify(name)).join(', ')}`,
    );
  }
  yield feed;
}

function onlyInput(inputs: readonly InputSpec[], file: string): InputSpec {
  if (inputs.length === 1) return inputs[0];
  throw expected('an .npz or .jsonl file with an entry per input', 'a model of several inputs', basename(file), {
    hint: `the inputs are ${inputs.map((input) => input.name).join(', ')}.`,
  });
}

async function openNpz(path: string, inputs: readonly InputSpec[]): Promise<Map<InputSpec, ArraySource>> {
  const arrays = parseNpz(await readFile(path), path);
  return new Map(
    inputs.map((input) => {
      const array = arrays.get(input.name);
      if (array) return [input, inMemory(array)];
      throw expected(`an array named ${JSON.stringify(input.name)}`, path, [...arrays.keys()]);
    }),
  );
}

/** Numbers inside names compare as numbers: set_2 before set_10. */
function compareNames(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
