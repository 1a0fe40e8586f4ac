/**
 * DynamicQuantizeLSTM (com.microsoft 1): LSTM with 8-bit weights; the input and, at every step, the state are quantized by
 * their own range. Inputs: X [T, B, I], W codes [D, I, 4H], R codes [D, H, 4H] (both transposed against LSTM), bias [D, 8H]?,
 * sequence_lens [B]?, initial_h?, initial_c?, peepholes [D, 3H]?, then scale and zero point of W and of R: [D] or [D, 4H].
 */
import type { Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { checkType, modelError, shapeOfRank } from './families/inference';
import { inferLstm, runLstm } from './families/lstm';
import { dynamicQuantization, quantizeCode } from './families/quantization';
import { toDoubles } from './families/values';

const { fround } = Math;

/** Weights of all directions as codes minus zero points, [direction][depth][4 * hidden], with their scales. */
interface Weights {
  values: Float64Array;
  scales: Float64Array;
  directions: number;
  columns: number;
}

function weightsOf(node: Node, name: string, codes: Tensor, scale: Tensor, zeroPoint: Tensor): Weights {
  const [directions, , columns] = codes.dims;
  for (const parameter of [scale, zeroPoint]) {
    if (parameter.size !== directions && parameter.size !== directions * columns) {
      const rule = `${directions} or ${directions * columns} elements`;
      throw modelError(node, rule, `scale or zero point of ${name}`, `${parameter.size} elements`);
    }
  }
  const values = toDoubles(codes);
  const zeros = toDoubles(zeroPoint);
  const perDirection = values.length / directions;
  for (let i = 0; i < values.length; i++) {
    const d = Math.floor(i / perDirection);
    values[i] -= zeros.length === directions ? zeros[d] : zeros[d * columns + (i % columns)];
  }
  return { values, scales: toDoubles(scale), directions, columns };
}

/** float32(sum of code products) * (scale of rows * scale of weights), with rows quantized by their own range. */
function multiply({ values, scales, directions, columns }: Weights, d: number, rows: Float64Array): Float64Array {
  const weight = values.subarray((d * values.length) / directions, ((d + 1) * values.length) / directions);
  const depth = weight.length / columns;
  const real = Float32Array.from(rows);
  const { scale, zeroPoint } = dynamicQuantization(real);
  const codes = Float64Array.from(real, (x) => quantizeCode(x, scale, zeroPoint, 0, 255) - zeroPoint);
  const out = new Float64Array((rows.length / depth) * columns);
  for (let i = 0; i < codes.length; i++) {
    const [to, from] = [Math.floor(i / depth) * columns, (i % depth) * columns];
    for (let c = 0; c < columns; c++) out[to + c] += codes[i] * weight[from + c];
  }
  for (let i = 0; i < out.length; i++) {
    const factor = scales.length === directions ? scales[d] : scales[d * columns + (i % columns)];
    out[i] = fround(fround(out[i] | 0) * fround(scale * factor));
  }
  return out;
}

export const DynamicQuantizeLSTM = defineOp({
  type: 'DynamicQuantizeLSTM',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'float32');
    const r = shapeOfRank(context, 2, 3);
    return inferLstm(context, context.node.attributes.int('hidden_size') ?? r?.[1] ?? context.unknownDim());
  },
  run([x, w, r, bias, lengths, h, c, peepholes, wScale, wZero, rScale, rZero], { node }) {
    const [count, hidden] = r!.dims;
    const expectedDims = { W: [count, x!.dims[2], 4 * hidden], R: [count, hidden, 4 * hidden] };
    for (const [name, tensor] of [['W', w!] as const, ['R', r!] as const]) {
      const dims = expectedDims[name];
      if (tensor.dims.join() !== dims.join()) throw modelError(node, `shape [${dims.join(', ')}]`, name, tensor.dims);
    }
    const input = weightsOf(node, 'W', w!, wScale!, wZero!);
    const state = weightsOf(node, 'R', r!, rScale!, rZero!);
    return runLstm(
      node,
      hidden,
      { x: x!, bias, lengths, h, c, peepholes },
      { input: (d, rows) => multiply(input, d, rows), state: (d, rows) => multiply(state, d, rows) },
    );
  },
});
