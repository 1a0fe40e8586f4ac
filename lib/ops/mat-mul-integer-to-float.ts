/**
 * MatMulIntegerToFloat (com.microsoft 1): fl(fl(float(acc) * fl(a_scale * b_scale[n])) + bias[n]). Inputs: A, B, a_scale,
 * b_scale, a_zp?, b_zp?, bias? (float). Some exporters write the two scales in the other order; one of them is a scalar.
 */
import type { Node } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { checkType, modelError } from './families/inference';
import { inferMatMul, type MatMulPlan } from './families/matmul';
import { lowerQMatMul, multiplyCodes } from './families/qmatmul';
import { inputParameters } from './families/run-time-input';
import { scalarOf, toDoubles } from './families/values';

const { fround } = Math;

/** fl(a_scale * b_scale), one value or one per column. */
export function productScales(node: Node, aScale: Tensor, bScale: Tensor, n: number): Float32Array {
  const [one, many] = aScale.size === 1 ? [aScale, bScale] : [bScale, aScale];
  if (one.size !== 1 || (many.size !== 1 && many.size !== n)) {
    throw modelError(node, `1 or ${n} elements`, 'the scales', [aScale.size, bScale.size]);
  }
  const scalar = scalarOf(one);
  return Float32Array.from(toDoubles(many), (scale) => scalar * scale);
}

/** Scales of B for a native step: one, or one per column. */
export function scalesOf(node: Node, scale: Tensor, n: number): Float32Array {
  if (scale.size !== 1 && scale.size !== n) throw modelError(node, `1 or ${n} elements`, 'the scales', scale.size);
  return Float32Array.from(toDoubles(scale));
}

/** The float result of an accumulator. */
export function dequantizeProduct(
  node: Node,
  sums: Float64Array,
  plan: MatMulPlan,
  scales: Float32Array,
  bias: Tensor | null | undefined,
): Tensor {
  const { n, dims } = plan;
  if (bias && bias.size !== n) throw modelError(node, `${n} elements`, 'the bias', bias.size);
  const offsets = bias ? (bias.data as Float32Array) : null;
  const out = new Float32Array(sums.length);
  for (let i = 0; i < out.length; i++) {
    const product = fround(fround(sums[i]) * scales[scales.length === 1 ? 0 : i % n]);
    out[i] = offsets ? product + offsets[i % n] : product;
  }
  return new Tensor('float32', out, dims);
}

export const MatMulIntegerToFloat = defineOp({
  type: 'MatMulIntegerToFloat',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 1, 'uint8', 'int8');
    return [{ dtype: 'float32', shape: inferMatMul(context, 0, 1) }];
  },
  run([a, b, aScale, bScale, aZero, bZero, bias], { node }) {
    const { sums, plan } = multiplyCodes(node, a!, aZero ?? null, b!, bZero ?? null);
    return [dequantizeProduct(node, sums, plan, productScales(node, aScale!, bScale!, plan.n), bias)];
  },
  lower(context) {
    const { node } = context;
    const [codes, bValue, first, second] = [0, 1, 2, 3].map((i) => node.requiredInput(i));
    const [aScale, bScale] = [context.constant(first), context.constant(second)];
    const biasValue = node.input(6);
    const bias = context.constant(biasValue);
    const known = bScale ?? aScale;
    if (!known || (biasValue && !bias)) return false;
    const n = context.shape(bValue).at(-1)!;
    const isConstant = aScale !== undefined && bScale !== undefined;
    // In either order of the two scales, the one that the run computes is the activation's.
    const computed = isConstant ? null : bScale ? first : second;
    const parameters = inputParameters(context, codes, computed, node.input(4));
    if (parameters === undefined || (isConstant && typeof parameters !== 'number')) return false;
    const scale = isConstant ? productScales(node, aScale, bScale, n) : scalesOf(node, known, n);
    const output = { kind: 'dequantize', scale, bias: (bias?.data as Float32Array | undefined) ?? null } as const;
    const inputs = { a: 0, b: 1, bZeroPoint: 5 };
    return lowerQMatMul(context, inputs, parameters, output, () => context.output(node.output, 'row').id);
  },
});
