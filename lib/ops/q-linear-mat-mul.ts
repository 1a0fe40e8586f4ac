/**
 * QLinearMatMul (ai.onnx 10, 21): matrix product of codes, exact in int32, requantized. Inputs: a, a_scale, a_zp, b, b_scale,
 * b_zp, y_scale, y_zp. Parameters of a may be per row, of b per column.
 */
import { allocate, codeRange, type DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { checkType } from './families/inference';
import { inferMatMul } from './families/matmul';
import { lowerQMatMul, multiplyCodes, perColumn, perRow } from './families/qmatmul';
import { constantQuantization, quantizationOf, requantizeCode, requantizeMultipliers } from './families/quantization';
import { sizeOf } from '../tensor/shape';

const { fround } = Math;

export const QLinearMatMul = defineOp({
  type: 'QLinearMatMul',
  since: [10, 21],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 3, 'uint8', 'int8');
    return [{ dtype: checkType(context, 7, 'uint8', 'int8'), shape: inferMatMul(context, 0, 3) }];
  },
  run([a, aScale, aZero, b, bScale, bZero, yScale, yZero], { node }) {
    const y = quantizationOf(node, 'y', yScale, yZero, yZero!.type);
    const { sums, plan } = multiplyCodes(node, a!, aZero, b!, bZero);
    const { m, n, k, batchOffsets } = plan;
    const aScales = perRow(node, 'the scale of a', aScale, a!.dims);
    const bScales = perColumn(node, 'the scale of b', bScale, b!.dims);
    const [min, max] = codeRange(y.dtype);
    const out = allocate(y.dtype, sums.length);
    for (let item = 0; item < batchOffsets.length; item += 3) {
      const firstRow = k === 0 ? 0 : batchOffsets[item] / k;
      for (let i = 0; i < m; i++) {
        const rowScale = aScales(firstRow + i);
        for (let j = 0; j < n; j++) {
          const at = batchOffsets[item + 2] + i * n + j;
          const multiplier = fround(fround(rowScale * bScales(batchOffsets[item + 1] + j)) / y.scale);
          out[at] = requantizeCode(sums[at], multiplier, y.zeroPoint, min, max);
        }
      }
    }
    return [new Tensor<DType>(y.dtype, out, plan.dims)];
  },
  lower(context) {
    const { node } = context;
    const aScale = context.constant(node.requiredInput(1));
    const aZero = context.constant(node.input(2));
    const bScale = context.constant(node.requiredInput(4));
    if (aScale?.size !== 1 || (aZero && aZero.size !== 1) || !bScale) return false;
    const a = constantQuantization(context, 'a', 1, context.dtype(node.requiredInput(0)));
    const y = constantQuantization(context, 'y', 6, context.dtype(node.output));
    const bShape = context.shape(node.requiredInput(3));
    const columns = bShape.length > 1 ? bShape[bShape.length - 1] : 1;
    const isFloat = aScale.type === 'float32' && bScale.type === 'float32';
    if (!a || !y || !isFloat || (bScale.size !== 1 && bScale.size !== columns)) return false;
    // One column scale per matrix of a batch has no step.
    if (bScale.size !== 1 && sizeOf(bShape.slice(0, -2)) !== 1) return false;
    const [min, max] = codeRange(y.dtype);
    const multiplier = requantizeMultipliers(a.scale, bScale.data as Float32Array, y.scale);
    return lowerQMatMul(
      context,
      { a: 0, b: 3, bZeroPoint: 5 },
      a.zeroPoint,
      { kind: 'requantize', multiplier, bias: null, zeroPoint: y.zeroPoint, min, max },
      () => context.output(node.output, 'row').id,
    );
  },
});
