/**
 * QAttention (com.microsoft 1): Attention whose projection multiplies codes: fl(acc * fl(input_scale * weight_scale)) + bias.
 * Inputs: input (codes), weight (codes), bias (float32), input_scale, weight_scale (1 or 3H), mask?, input_zp?, weight_zp?,
 * past?.
 */
import { defineOp } from './define-op';
import {
  attend,
  canLowerAttention,
  columnsOf,
  emitAttention,
  inferAttention,
  planAttention,
  planOf,
} from './families/attention';
import { checkType } from './families/inference';
import { emitQMatMul, multiplyCodes } from './families/qmatmul';
import { inputParameters } from './families/run-time-input';
import { toDoubles } from './families/values';
import { dequantizeProduct, productScales, scalesOf } from './mat-mul-integer-to-float';

const INDICES = { mask: 5, past: 8, bias: -1 };

export const QAttention = defineOp({
  type: 'QAttention',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 1, 'uint8', 'int8');
    return inferAttention(context, 1, INDICES.past);
  },
  run([input, weight, bias, inputScale, weightScale, mask, inputZero, weightZero, past], { node, outputCount }) {
    const columns = columnsOf(node, weight!.dims);
    const plan = planAttention(node, input!.dims, columns);
    const { sums, plan: product } = multiplyCodes(node, input!, inputZero ?? null, weight!, weightZero ?? null);
    const scales = productScales(node, inputScale!, weightScale!, columns);
    const rows = dequantizeProduct(node, sums, product, scales, bias);
    return attend(node, toDoubles(rows), plan, { mask, past }).slice(0, outputCount);
  },
  lower(context) {
    const { node } = context;
    const [input, weight, biasValue, inputScale, scaleValue] = [0, 1, 2, 3, 4].map((i) => node.requiredInput(i));
    const [scale, bias] = [context.constant(scaleValue), context.constant(biasValue)];
    if (!scale || !bias || !context.constant(weight) || !canLowerAttention(context, INDICES)) return false;
    const parameters = inputParameters(context, input, inputScale, node.input(6));
    if (parameters === undefined) return false;
    const plan = planOf(context);
    const { batch, length, rowWidth } = plan;
    const output = {
      kind: 'dequantize',
      scale:
        typeof parameters === 'number'
          ? productScales(node, context.constant(inputScale)!, scale, rowWidth)
          : scalesOf(node, scale, rowWidth),
      bias: bias.data as Float32Array,
    } as const;
    const rows = context.temporary('float32', [batch, length, rowWidth]);
    const codes = { shape: context.shape(input), slot: () => context.slot(input, 'row') };
    if (!emitQMatMul(context, codes, { b: 1, bZeroPoint: 7 }, parameters, output, () => rows.id)) return false;
    emitAttention(context, rows, plan, INDICES);
    return true;
  },
});
