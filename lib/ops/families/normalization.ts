/** Normalization of rows to mean 0 and variance 1, in double; how normalizations are quantized where that is wanted. */
import type { ComputeTrait } from '../define-op';

/** Scale (input 1) as a weight, bias (input 2) as int32: accelerators expect this; CPUs normalize floats. */
export const NORMALIZATION_TRAIT: ComputeTrait = {
  kind: 'compute',
  weight: 1,
  bias: 2,
  axis: 0,
  perChannel: false,
  inputs: [0, 1, 2],
  floatOnly: () => true,
};

/** (x - mean) / sqrt(var + epsilon) for each row of `size` elements, with both statistics per row. */
export function normalizeRows(
  x: Float64Array,
  size: number,
  epsilon: number,
): { values: Float64Array; means: Float64Array; inverses: Float64Array } {
  const rows = size === 0 ? 0 : x.length / size;
  const values = new Float64Array(x.length);
  const means = new Float64Array(rows);
  const inverses = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const part = x.subarray(row * size, (row + 1) * size);
    let sum = 0;
    for (const v of part) sum += v;
    const mean = sum / size;
    let squares = 0;
    for (const v of part) squares += (v - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / size + epsilon);
    for (let i = 0; i < size; i++) values[row * size + i] = (part[i] - mean) * inverse;
    means[row] = mean;
    inverses[row] = inverse;
  }
  return { values, means, inverses };
}
