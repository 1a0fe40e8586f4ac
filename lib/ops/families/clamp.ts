/**
 * The clamp that a fused Relu or Clip leaves on Conv and Gemm: the internal float attributes `q8_min` and `q8_max`, set by
 * passes when a session loads a model and never written to a file.
 */
import type { Node } from '../../graph/graph';

/** The clamp of a node; infinite bounds when there is none. */
export function clampRange(node: Node): { min: number; max: number } {
  return {
    min: node.attributes.float('q8_min', Number.NEGATIVE_INFINITY),
    max: node.attributes.float('q8_max', Number.POSITIVE_INFINITY),
  };
}

/** Clamps in place; NaN stays NaN. When min > max the result is max, as Clip defines it. */
export function clampValues(values: Float64Array, { min, max }: { min: number; max: number }): void {
  if (min === Number.NEGATIVE_INFINITY && max === Number.POSITIVE_INFINITY) return;
  for (let i = 0; i < values.length; i++) values[i] = Math.min(max, Math.max(min, values[i]));
}
