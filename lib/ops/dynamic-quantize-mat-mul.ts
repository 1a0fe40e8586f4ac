/**
 * DynamicQuantizeMatMul (com.microsoft 1): quantizes the whole of A to uint8 by its own range, then as
 * MatMulIntegerToFloat. Inputs: A (float), B, b_scale, b_zp?, bias? (float).
 */
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { checkType } from './families/inference';
import { inferMatMul } from './families/matmul';
import { emitQMatMul, multiplyCodes } from './families/qmatmul';
import { dynamicQuantization, quantizeTensor } from './families/quantization';
import { quantizeInRun } from './families/run-time-input';
import { dequantizeProduct, productScales, scalesOf } from './mat-mul-integer-to-float';

export const DynamicQuantizeMatMul = defineOp({
  type: 'DynamicQuantizeMatMul',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'float32');
    checkType(context, 1, 'uint8', 'int8');
    return [{ dtype: 'float32', shape: inferMatMul(context, 0, 1) }];
  },
  run([a, b, bScale, bZero, bias], { node }) {
    const values = a!.data as Float32Array;
    const quantization = dynamicQuantization(values);
    const codes = quantizeTensor(values, a!.dims, quantization);
    const zero = new Tensor('uint8', [quantization.zeroPoint], []);
    const { sums, plan } = multiplyCodes(node, codes, zero, b!, bZero ?? null);
    const aScale = new Tensor('float32', [quantization.scale], []);
    return [dequantizeProduct(node, sums, plan, productScales(node, aScale, bScale!, plan.n), bias)];
  },
  lower(context) {
    const { node } = context;
    const [aValue, bValue] = [node.requiredInput(0), node.requiredInput(1)];
    const biasValue = node.input(4);
    const [scale, bias] = [context.constant(node.requiredInput(2)), context.constant(biasValue)];
    const bShape = context.shape(bValue);
    if (!scale || (biasValue && !bias) || bShape.length !== 2 || !context.constant(bValue)) return false;
    const a = quantizeInRun(context, aValue, 'row');
    const output = {
      kind: 'dequantize',
      scale: scalesOf(node, scale, bShape[1]),
      bias: (bias?.data as Float32Array | undefined) ?? null,
    } as const;
    const left = { shape: context.shape(aValue), slot: () => a.codes };
    return emitQMatMul(context, left, { b: 1, bZeroPoint: 3 }, a, output, () => context.output(node.output, 'row').id);
  },
});
