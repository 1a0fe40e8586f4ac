/** ReduceMean (ai.onnx 1, 11, 13, 18): mean over axes. */
import type { Node } from '../graph/graph';
import { defineReduction } from './families/reduction';
import { integersOf } from './families/values';

/** A mean as global average pooling: the input transposed to [...kept, ...reduced]. */
export interface MeanView {
  /** At most two axes, ascending, as are the reduced ones. */
  kept: number[];
  reduced: number[];
  keepDims: boolean;
}

/** Undefined where pooling is not the same: nothing is reduced, more than two axes are kept, or the axes are not known. */
export function meanView(node: Node): MeanView | undefined {
  const rank = node.requiredInput(0).type?.shape?.length;
  const input = node.input(1);
  const given = input ? input.constant && integersOf(input.constant) : (node.attributes.ints('axes') ?? []);
  if (rank === undefined || !given) return undefined;
  const none = given.length === 0;
  if (none && node.attributes.int('noop_with_empty_axes', 0) !== 0) return undefined;
  const axes = new Set(given.map((axis) => (axis < 0 ? axis + rank : axis)));
  const all = [...new Array(rank).keys()];
  const kept = all.filter((axis) => !none && !axes.has(axis));
  const reduced = all.filter((axis) => none || axes.has(axis));
  if (kept.length > 2 || reduced.length === 0) return undefined;
  return { kept, reduced, keepDims: node.attributes.int('keepdims', 1) === 1 };
}

export const ReduceMean = defineReduction({
  type: 'ReduceMean',
  since: [1, 11, 13, 18],
  axesInputSince: 18,
  kind: 'mean',
  quant: { kind: 'elementwise', inputs: [0], floatOnly: (node) => meanView(node) === undefined },
  initial: 0,
  fold: (sum, v) => sum + v,
  finish: (sum, count) => sum / count,
});
