/** ReduceMean (ai.onnx 1, 11, 13, 18): mean over axes. */
import type { Node } from '../graph/graph';
import { defineReduction } from './families/reduction';
import { integersOf } from './families/values';

/** Over all spatial axes, kept, it is global average pooling, which has an integer form. */
export function isGlobalPooling(node: Node): true | string {
  const rank = node.requiredInput(0).type?.shape?.length ?? 0;
  const input = node.input(1);
  const given = input ? input.constant && integersOf(input.constant) : node.attributes.ints('axes');
  const axes = new Set(given?.map((axis) => (axis < 0 ? axis + rank : axis)));
  const spatial = rank > 2 && axes.size === rank - 2 && !axes.has(0) && !axes.has(1);
  return (spatial && node.attributes.int('keepdims', 1) === 1) || 'it is not global average pooling';
}

export const ReduceMean = defineReduction({
  type: 'ReduceMean',
  since: [1, 11, 13, 18],
  axesInputSince: 18,
  kind: 'mean',
  quant: { kind: 'elementwise', inputs: [0], when: isGlobalPooling },
  initial: 0,
  fold: (sum, v) => sum + v,
  finish: (sum, count) => sum / count,
});
