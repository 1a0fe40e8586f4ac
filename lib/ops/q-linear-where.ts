/**
 * QLinearWhere (com.microsoft 1): chooses between codes of two tensors, rescaled to the output. Inputs: condition, X, x_scale,
 * x_zp, Y, y_scale, y_zp, z_scale, z_zp.
 */
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { broadcastDims, checkType } from './families/inference';
import { applyTable, type Quantization, quantizationOf, rescaleTable, sameQuantization } from './families/quantization';
import { select } from './where';

function rescaled(x: Tensor, from: Quantization, to: Quantization): Tensor {
  return sameQuantization(from, to) ? x : applyTable(x, rescaleTable(from, to), to.dtype);
}

export const QLinearWhere = defineOp({
  type: 'QLinearWhere',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    const shape = broadcastDims(
      context,
      [0, 1, 4].map((i) => context.input(i).shape),
    );
    return [{ dtype: context.optionalInput(8)?.dtype ?? checkType(context, 1, 'uint8', 'int8'), shape }];
  },
  run([condition, x, xScale, xZero, y, yScale, yZero, zScale, zZero], { node }) {
    const z = quantizationOf(node, 'Z', zScale, zZero, zZero?.type ?? x!.type);
    const left = rescaled(x!, quantizationOf(node, 'X', xScale, xZero, x!.type), z);
    const right = rescaled(y!, quantizationOf(node, 'Y', yScale, yZero, y!.type), z);
    return [select(condition!, left, right, `node "${node.name}" (${node.op})`)];
  },
});
