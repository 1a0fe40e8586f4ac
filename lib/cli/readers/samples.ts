/**
 * Feeds for a model out of files or thin air: .npy, .npz, IDX, folders of them, folders of ONNX test data (.pb), or random
 * numbers. Used by the commands that calibrate, run and compare.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expected, Q8Error } from '../../errors';
import { tensorFromProto } from '../../graph/tensor-proto';
import { onnx } from '../../onnx/onnx-proto';
import { allocate, type DType } from '../../tensor/dtype';
import { sizeOf } from '../../tensor/shape';
import { Tensor } from '../../tensor/tensor';
import { parseIdx } from './idx';
import { parseNpy } from './npy';
import { parseNpz } from './npz';

/** An input as a session describes it: symbolic dimensions are strings. */
export interface InputSpec {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

export type Feed = Record<string, Tensor>;

/** How bytes become float32: (x / 255 - mean[c]) / std[c], with one value or one per channel (axis 1). */
export interface Normalization {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface SampleOptions {
  readonly normalization?: Normalization;
  /** At most so many feeds. */
  readonly limit?: number;
}

/**
 * Reads feeds from `path`. In files the first axis counts samples: they are cut into feeds of the model's batch size, or of
 * one sample when it is free.
 * @throws ERR_Q8_INVALID_ARGUMENT when the files do not fit the inputs.
 */
export async function readFeeds(
  path: string,
  inputs: readonly InputSpec[],
  options: SampleOptions = {},
): Promise<Feed[]> {
  const feeds = (await stat(path)).isDirectory()
    ? await readFolder(path, inputs, options)
    : await readDataFile(path, inputs, options);
  if (feeds.length === 0) throw expected('at least one sample', path, 'none');
  return feeds.slice(0, options.limit);
}

/** Reads one tensor from a .npy, .pb or IDX file. */
export async function readTensor(path: string): Promise<Tensor> {
  const bytes = await readFile(path);
  if (path.endsWith('.npy')) return parseNpy(bytes, path);
  if (path.endsWith('.pb')) return tensorFromProto(onnx.TensorProto.decode(bytes), path);
  if (/idx\d?(-ubyte)?(\.gz)?$/.test(path)) return parseIdx(bytes, path);
  throw expected('a .npy, .npz, .pb or IDX file, or a folder of them', 'the data', path);
}

/**
 * `count` feeds of pseudo-random numbers: normally distributed floats, integers 0 and 1. The same seed gives the same
 * feeds. `shapes` overrides the shape of inputs; a free first dimension is 1, other free ones must be given.
 */
export function randomFeeds(
  inputs: readonly InputSpec[],
  count: number,
  shapes: ReadonlyMap<string, readonly number[]> = new Map(),
  seed = 1,
): Feed[] {
  const next = randomNumbers(seed);
  return Array.from({ length: count }, () =>
    Object.fromEntries(
      inputs.map((input) => [input.name, randomTensor(input, shapes.get(input.name) ?? concreteShape(input), next)]),
    ),
  );
}

async function readFolder(path: string, inputs: readonly InputSpec[], options: SampleOptions): Promise<Feed[]> {
  const entries = (await readdir(path, { withFileTypes: true })).sort((a, b) => compareNames(a.name, b.name));
  const files = entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
  const pbs = files.filter((name) => /^input_\d+\.pb$/.test(name));
  if (pbs.length > 0) return [await readProtoSet(path, pbs, inputs)];
  const feeds: Feed[] = [];
  for (const entry of entries) {
    if (options.limit !== undefined && feeds.length >= options.limit) break;
    const child = join(path, entry.name);
    if (entry.isDirectory()) feeds.push(...(await readFolder(child, inputs, options)));
    else if (/\.(npy|npz|pb)$/.test(entry.name)) feeds.push(...(await readDataFile(child, inputs, options)));
  }
  return feeds;
}

/** A folder of ONNX's test data: input_0.pb, input_1.pb, ... in the order of the model's inputs. */
async function readProtoSet(path: string, names: readonly string[], inputs: readonly InputSpec[]): Promise<Feed> {
  const feed: Feed = {};
  for (const name of names) {
    const tensor = await readTensor(join(path, name));
    const input = inputs[Number(/\d+/.exec(name)?.[0])];
    if (input) feed[input.name] = tensor;
  }
  return feed;
}

async function readDataFile(path: string, inputs: readonly InputSpec[], options: SampleOptions): Promise<Feed[]> {
  if (path.endsWith('.npz')) {
    const arrays = parseNpz(await readFile(path), path);
    const columns = inputs.map((input) => {
      const array = arrays.get(input.name);
      if (array) return cut(array, input, path, options);
      throw expected(`an array named ${JSON.stringify(input.name)}`, path, [...arrays.keys()]);
    });
    const count = Math.min(...columns.map((column) => column.length));
    return Array.from({ length: count }, (_, i) =>
      Object.fromEntries(inputs.map((input, j) => [input.name, columns[j][i]])),
    );
  }
  if (inputs.length !== 1) {
    throw expected('an .npz file with an array per input', 'a model of several inputs', basename(path), {
      hint: `the inputs are ${inputs.map((input) => input.name).join(', ')}.`,
    });
  }
  return cut(await readTensor(path), inputs[0], path, options).map((tensor) => ({ [inputs[0].name]: tensor }));
}

/** Cuts an array along its first axis into tensors of the input's shape and type. */
function cut(array: Tensor, input: InputSpec, path: string, { normalization, limit }: SampleOptions): Tensor[] {
  const batch = typeof input.shape[0] === 'number' ? input.shape[0] : 1;
  const dims = sampleDims(array.dims, input, path);
  const size = sizeOf(dims);
  const count = Math.min(batch > 0 ? Math.floor(array.dims[0] / batch) : 0, limit ?? Number.POSITIVE_INFINITY);
  const data = array.data as Float32Array;
  return Array.from({ length: count }, (_, i) => {
    const part = data.subarray(i * batch * size, (i + 1) * batch * size);
    return convert(new Tensor(array.type, part, [batch, ...dims]), input, path, normalization);
  });
}

/** The shape of one sample: the array's own where ranks agree, else the input's if it has as many elements. */
function sampleDims(dims: readonly number[], input: InputSpec, path: string): readonly number[] {
  const own = dims.slice(1);
  const wanted = input.shape.slice(1);
  if (dims.length === input.shape.length && wanted.every((dim, i) => typeof dim === 'string' || dim === own[i]))
    return own;
  if (dims.length > 0 && wanted.every((dim) => typeof dim === 'number') && sizeOf(wanted) === sizeOf(own))
    return wanted;
  throw expected(`samples of shape [${wanted.join(', ')}] for the input ${JSON.stringify(input.name)}`, path, dims, {
    code: 'ERR_Q8_SHAPE_MISMATCH',
  });
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
  if (!normalization) {
    throw new Q8Error(
      'ERR_Q8_INVALID_ARGUMENT',
      `${path} holds bytes; the input ${JSON.stringify(input.name)} takes float32.`,
      {
        hint: 'say how pixels become numbers: --mean 0.5 --std 0.5 gives (x / 255 - 0.5) / 0.5.',
      },
    );
  }
  return normalize(tensor, normalization);
}

function normalize(tensor: Tensor, { mean, std }: Normalization): Tensor {
  const channels = tensor.dims[1] ?? 1;
  const inner = sizeOf(tensor.dims.slice(2));
  if (![mean, std].every((values) => values.length === 1 || values.length === channels)) {
    throw expected(`1 or ${channels} values`, '--mean and --std', `${mean.length} and ${std.length}`);
  }
  const data = Float32Array.from(tensor.data as Uint8Array, (pixel, i) => {
    const channel = Math.floor(i / inner) % channels;
    return (pixel / 255 - mean[channel % mean.length]) / std[channel % std.length];
  });
  return new Tensor('float32', data, tensor.dims);
}

function concreteShape(input: InputSpec): number[] {
  return input.shape.map((dim, axis) => {
    if (typeof dim === 'number') return dim;
    if (axis === 0) return 1;
    throw new Q8Error(
      'ERR_Q8_INVALID_ARGUMENT',
      `Dimension ${axis} of the input ${JSON.stringify(input.name)} is free.`,
      {
        hint: `give its shape, for example --shape ${input.name}=${input.shape.map((d, i) => (typeof d === 'number' ? d : i === 0 ? 1 : 64)).join('x')}.`,
      },
    );
  });
}

function randomTensor(input: InputSpec, dims: readonly number[], next: () => number): Tensor {
  const type = input.type as DType;
  if (type === 'string') throw expected('a numeric input', JSON.stringify(input.name), 'string');
  const data = allocate(type, sizeOf(dims)) as Float32Array | BigInt64Array;
  const isFloat = type === 'float32' || type === 'float64';
  for (let i = 0; i < data.length; i++) {
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(Math.floor(next() * 2));
    // Box-Muller; 1 - next() is never 0.
    else
      data[i] = isFloat
        ? Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())
        : Math.floor(next() * 2);
  }
  return new Tensor(type, data as Float32Array, dims);
}

/** Mulberry32: a small generator of uniform numbers in [0, 1). */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers inside names compare as numbers: set_2 before set_10. */
function compareNames(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
