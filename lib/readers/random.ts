/** Samples out of thin air: for trying things out, not for judging accuracy. The same seed gives the same numbers. */
import { expected, Q8Error } from '../errors';
import { allocate, type DType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import type { Feed, InputSpec } from './inputs';

/**
 * `count` feeds of pseudo-random numbers, one at a time: normally distributed floats, integers 0 and 1. `shapes` overrides
 * the shape of inputs; a free first dimension is 1, other free ones must be given.
 */
export function* randomFeeds(
  inputs: readonly InputSpec[],
  count: number,
  shapes: ReadonlyMap<string, readonly number[]> = new Map(),
  seed = 1,
): Generator<Feed> {
  const next = randomNumbers(seed);
  for (let i = 0; i < count; i++) {
    yield Object.fromEntries(
      inputs.map((input) => [input.name, randomTensor(input, shapes.get(input.name) ?? concreteShape(input), next)]),
    );
  }
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
