/** QLinearConcat (com.microsoft 1): joins codes, rescaled to the output. Inputs: Y_scale, Y_zp, then (X, scale, zp) each. */
import type { Node } from '../graph/graph';
import { concat as join } from './families/strided';
import { checkJoinable, inferConcat, lowerConcat } from './concat';
import { defineOp } from './define-op';
import { axisOf, checkType, modelError } from './families/inference';
import {
  applyTable,
  constantQuantization,
  type Quantization,
  quantizationOf,
  rescaleTable,
  sameQuantization,
} from './families/quantization';

/** Input indices of the tensors to join. */
function tensorIndices(node: Node): number[] {
  const { length } = node.inputs;
  if (length < 4) throw modelError(node, 'at least 4', 'inputs', length);
  return Array.from({ length: Math.ceil((length - 2) / 3) }, (_, i) => 2 + 3 * i);
}

/** The table to the output's codes; null when they can be copied. */
function tableTo(from: Quantization, to: Quantization): Uint8Array | null {
  return sameQuantization(from, to) ? null : rescaleTable(from, to);
}

export const QLinearConcat = defineOp({
  type: 'QLinearConcat',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    const indices = tensorIndices(context.node);
    for (const i of indices) checkType(context, i, 'uint8', 'int8');
    return [{ dtype: checkType(context, 1, 'uint8', 'int8'), shape: inferConcat(context, indices) }];
  },
  run(inputs, { node }) {
    const to = quantizationOf(node, 'Y', inputs[0], inputs[1], inputs[1]!.type);
    const parts = tensorIndices(node).map((i) => {
      const x = inputs[i]!;
      const table = tableTo(quantizationOf(node, `input ${i}`, inputs[i + 1], inputs[i + 2], x.type), to);
      return table ? applyTable(x, table, to.dtype) : x;
    });
    const axis = axisOf(node, node.attributes.int('axis', 0), parts[0].dims.length);
    checkJoinable(
      node,
      axis,
      parts.map((part) => part.dims),
    );
    return [join(to.dtype, parts, axis)];
  },
  lower(context) {
    const { node } = context;
    const to = constantQuantization(context, 'Y', 0, context.dtype(node.output));
    if (!to) return false;
    const values = tensorIndices(node).map((i) => node.requiredInput(i));
    const sources = tensorIndices(node).map((i, j) =>
      constantQuantization(context, `input ${i}`, i + 1, context.dtype(values[j])),
    );
    if (sources.some((source) => !source)) return false;
    return lowerConcat(
      context,
      values,
      sources.map((source) => tableTo(source!, to)),
    );
  },
});
