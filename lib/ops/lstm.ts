/**
 * LSTM (ai.onnx 1, 7, 14, 22) in float. Inputs: X [T, B, I], W [D, 4H, I], R [D, 4H, H], bias [D, 8H], sequence_lens [B],
 * initial_h and initial_c [D, B, H], peepholes [D, 3H]. Gates are stored in the order input, output, forget, cell.
 */
import { defineOp } from './define-op';
import { modelError, shapeOfRank } from './families/inference';
import { inferLstm, runLstm } from './families/lstm';
import { RECURRENT_TRAIT } from './families/recurrent';
import { toDoubles } from './families/values';

/** rows [n, depth] times the transpose of weight [columns, depth]. */
function timesTransposed(rows: Float64Array, weight: Float64Array, columns: number): Float64Array {
  const depth = weight.length / columns;
  const out = new Float64Array(depth === 0 ? 0 : (rows.length / depth) * columns);
  for (let i = 0; i < out.length; i++) {
    const [from, to] = [Math.floor(i / columns) * depth, (i % columns) * depth];
    let sum = 0;
    for (let k = 0; k < depth; k++) sum += rows[from + k] * weight[to + k];
    out[i] = sum;
  }
  return out;
}

export const LSTM = defineOp({
  type: 'LSTM',
  since: [1, 7, 14, 22],
  quant: RECURRENT_TRAIT,
  inferShape(context) {
    const r = shapeOfRank(context, 2, 3);
    return inferLstm(context, context.node.attributes.int('hidden_size') ?? r?.[2] ?? context.unknownDim());
  },
  run([x, w, r, bias, lengths, h, c, peepholes], { node }) {
    const hidden = r!.dims[2];
    const count = node.attributes.string('direction', 'forward') === 'bidirectional' ? 2 : 1;
    const inputs = x!.dims[2];
    for (const [name, tensor, depth] of [['W', w!, inputs] as const, ['R', r!, hidden] as const]) {
      const size = count * 4 * hidden * depth;
      if (tensor.size !== size) throw modelError(node, `${size} elements`, name, `${tensor.size} elements`);
    }
    const weights = [toDoubles(w!), toDoubles(r!)];
    const multiply = (which: 0 | 1, d: number, rows: Float64Array): Float64Array => {
      const size = weights[which].length / count;
      return timesTransposed(rows, weights[which].subarray(d * size, (d + 1) * size), 4 * hidden);
    };
    return runLstm(
      node,
      hidden,
      { x: x!, bias, lengths, h, c, peepholes },
      { input: (d, rows) => multiply(0, d, rows), state: (d, rows) => multiply(1, d, rows) },
    );
  },
});
