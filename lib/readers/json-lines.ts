/**
 * JSON lines: one sample a line. An object has an entry for each input, anything else is the only input. A tensor is nested
 * arrays, or `{ "dims": [...], "data": [...] }` with a flat array.
 */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { expected, Q8Error } from '../errors';
import { allocate, type DType, DTYPES } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import type { Feed, InputSpec } from './inputs';

/** The samples of a file, line by line. @throws ERR_Q8_INVALID_ARGUMENT that names the line */
export async function* readJsonLines(path: string, inputs: readonly InputSpec[]): AsyncGenerator<Feed> {
  const lines = createInterface({ input: createReadStream(path, 'utf8'), crlfDelay: Number.POSITIVE_INFINITY });
  let number = 0;
  for await (const line of lines) {
    number++;
    if (line.trim() === '') continue;
    yield parseLine(line, inputs, `line ${number} of ${path}`);
  }
}

function parseLine(line: string, inputs: readonly InputSpec[], where: string): Feed {
  let sample: unknown;
  try {
    sample = JSON.parse(line);
  } catch (cause) {
    throw expected('JSON', where, (cause as Error).message, { cause });
  }
  const isNamed = sample !== null && typeof sample === 'object' && !Array.isArray(sample) && !('data' in sample);
  const entries = isNamed ? (sample as Record<string, unknown>) : { [inputs[0]?.name]: sample };
  if (!isNamed && inputs.length !== 1) {
    throw expected(`an object with ${inputs.map(({ name }) => JSON.stringify(name)).join(', ')}`, where, sample);
  }
  return Object.fromEntries(
    inputs.map((input) => {
      if (Object.hasOwn(entries, input.name)) return [input.name, tensorOf(entries[input.name], input, where)];
      throw expected(`an entry for the input ${JSON.stringify(input.name)}`, where, Object.keys(entries));
    }),
  );
}

function tensorOf(value: unknown, { name, type, shape }: InputSpec, where: string): Tensor {
  const what = `the input ${JSON.stringify(name)} in ${where}`;
  if (!DTYPES.includes(type as DType)) throw expected('an input of a tensor type', what, type);
  let dims: number[];
  let flat: unknown[];
  if (value !== null && typeof value === 'object' && 'data' in value && 'dims' in value) {
    ({ dims, data: flat } = value as { dims: number[]; data: unknown[] });
    if (!Array.isArray(flat)) throw expected('an array "data"', what, flat);
  } else {
    dims = [];
    for (let at = value; Array.isArray(at); [at] = at) dims.push(at.length);
    flat = Array.isArray(value) ? value.flat(Number.POSITIVE_INFINITY) : [value];
    // A sample without the axis that counts samples.
    if (dims.length === shape.length - 1 && (shape[0] === 1 || typeof shape[0] === 'string')) dims = [1, ...dims];
  }
  return new Tensor(type as DType, elements(flat, type as DType, what) as Float32Array, dims);
}

function elements(flat: readonly unknown[], type: DType, what: string): Tensor['data'] {
  if (type === 'string') {
    if (flat.every((text) => typeof text === 'string')) return flat as string[];
    throw expected('strings', what, flat);
  }
  const data = allocate(type, flat.length) as Float32Array | BigInt64Array;
  const isWide = data instanceof BigInt64Array || data instanceof BigUint64Array;
  const isFloat = type === 'float32' || type === 'float64';
  for (const [i, value] of flat.entries()) {
    const isBool = type === 'bool' && typeof value === 'boolean';
    if (!isBool && !(isFloat ? Number.isFinite(value) : Number.isSafeInteger(value))) {
      throw expected(isFloat ? 'finite numbers' : type === 'bool' ? 'true and false' : 'integers', what, value);
    }
    if (type === 'float16') {
      throw new Q8Error('ERR_Q8_UNSUPPORTED_DTYPE', `JSON lines hold no float16, which ${what} takes.`, {
        hint: 'give the data as .npy files.',
      });
    }
    if (isWide) data[i] = BigInt(value as number);
    else data[i] = Number(value);
  }
  return data;
}
