/** Samples of the distributions that activations have, and cuts of them into tensors of different sizes. */
import { random } from '../networks';

/** About normal: the sum of twelve uniform numbers. */
export function normal(count: number, seed: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => {
    let sum = 0;
    for (let i = 0; i < 12; i++) sum += next();
    return sum / 2;
  });
}

/** Normal, but for one value in a thousand that is thirty times as large. */
export function withOutliers(count: number, seed: number): Float32Array {
  return normal(count, seed).map((x, i) => (i % 1000 === 999 ? 30 * x : x));
}

export function relu(values: Float32Array): Float32Array {
  return values.map((x) => Math.max(x, 0));
}

export const DISTRIBUTIONS: readonly [name: string, values: Float32Array][] = [
  ['normal', normal(20_000, 1)],
  ['normal with outliers', withOutliers(20_000, 2)],
  ['behind Relu', relu(normal(20_000, 3))],
  ['behind Relu, with outliers', relu(withOutliers(20_000, 4))],
  ['uniform, far from zero', Float32Array.from({ length: 5000 }, (_, i) => 10 + i / 5000)],
  ['negative', relu(normal(20_000, 6)).map((x) => -x)],
];

/** Tensors of growing, different sizes, one of them empty. */
export function ragged(values: Float32Array): Float32Array[] {
  const tensors: Float32Array[] = [new Float32Array(0)];
  for (let from = 0, size = 1; from < values.length; from += size++) tensors.push(values.subarray(from, from + size));
  return tensors;
}
