/**
 * QGemm (com.microsoft 1): alpha * A' * B' + C on codes. Inputs: A, a_scale, a_zp, B, b_scale, b_zp, C (int32, in units of
 * alpha * a_scale * b_scale), y_scale, y_zp. Without y_scale the result is float32.
 */
import type { QGemmStep } from '../../binding';
import type { Node } from '../graph/graph';
import { allocate, codeRange, type DType } from '../tensor/dtype';
import { broadcastStrides } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp, type LowerContext } from './define-op';
import { checkType, modelError } from './families/inference';
import { multiplyCodes, packedGemm } from './families/qmatmul';
import { constantQuantization, quantizationOf, requantizeCode, spread } from './families/quantization';
import { transpose } from './families/strided';
import { fromDoubles, scalarOf, toDoubles } from './families/values';
import { inferGemm } from './gemm';

const { fround } = Math;

/** fl(fl(alpha * a_scale) * b_scale[n]), divided by y_scale when there is one. */
function multipliers(node: Node, aScale: number, bScale: Tensor, yScale: number | undefined): Float32Array {
  const left = fround(fround(node.attributes.float('alpha', 1)) * aScale);
  return Float32Array.from(toDoubles(bScale), (s) => (yScale === undefined ? left * s : fround(left * s) / yScale));
}

/** C as one int32 per column, when it does not vary by row. */
function biasVector(c: Tensor | undefined, n: number): Int32Array | null | undefined {
  if (!c) return null;
  if (c.size === n && c.dims[c.dims.length - 1] === n) return c.data as Int32Array;
  return c.size === 1 ? new Int32Array(n).fill(scalarOf(c)) : undefined;
}

export const QGemm = defineOp({
  type: 'QGemm',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 3, 'uint8', 'int8');
    const dtype = context.optionalInput(7) ? (context.optionalInput(8)?.dtype ?? 'uint8') : 'float32';
    return [{ dtype, shape: inferGemm(context, 0, 3) }];
  },
  run([a, aScale, aZero, b, bScale, bZero, c, yScale, yZero], { node }) {
    const { scale, zeroPoint } = quantizationOf(node, 'A', aScale, aZero, a!.type);
    const left = node.attributes.int('transA', 0) ? transpose(a!, [1, 0]) : a!;
    const right = node.attributes.int('transB', 0) ? transpose(b!, [1, 0]) : b!;
    const { sums, plan } = multiplyCodes(node, left, new Tensor('int32', [zeroPoint]), right, bZero);
    const { m, n, dims } = plan;
    const y = yScale ? quantizationOf(node, 'Y', yScale, yZero, yZero?.type ?? 'uint8') : undefined;
    const factors = multipliers(node, scale, bScale!, y?.scale);
    spread(node, 'the scale of B', bScale, n);
    const bias = c ? toDoubles(c) : new Float64Array(1);
    const [rowStep, columnStep] = c ? broadcastStrides(c.dims, dims) : [0, 0];
    const [min, max] = y ? codeRange(y.dtype) : [0, 0];
    const out = y ? (allocate(y.dtype, sums.length) as Uint8Array) : sums;
    for (let i = 0, at = 0; i < m; i++) {
      for (let j = 0; j < n; j++, at++) {
        const acc = (sums[at] + bias[i * rowStep + j * columnStep]) | 0;
        const factor = factors[factors.length === 1 ? 0 : j];
        out[at] = y ? requantizeCode(acc, factor, y.zeroPoint, min, max) : fround(fround(acc) * factor);
      }
    }
    return [y ? new Tensor<DType>(y.dtype, out as Uint8Array, dims) : fromDoubles('float32', sums, dims)];
  },
  lower(context) {
    const { node } = context;
    const transB = node.attributes.int('transB', 0) !== 0;
    const aValue = node.requiredInput(0);
    const zeroValue = node.input(5);
    const cValue = node.input(6);
    const [b, bScale, bZero, c] = [node.requiredInput(3), node.requiredInput(4), zeroValue, cValue].map((v) =>
      context.constant(v),
    );
    const a = constantQuantization(context, 'A', 1, context.dtype(aValue));
    const y = node.input(7) ? constantQuantization(context, 'Y', 7, context.dtype(node.output)) : null;
    const [m, n] = context.shape(node.output);
    const k = context.shape(aValue)[1];
    const bias = biasVector(c, n);
    const isComputed = (zeroValue && !bZero) || (cValue && !c);
    if (
      node.attributes.int('transA', 0) !== 0 ||
      !a ||
      y === undefined ||
      !b ||
      !bScale ||
      isComputed ||
      bias === undefined
    )
      return false;
    if (bScale.size !== 1 && bScale.size !== n)
      throw modelError(node, `1 or ${n} elements`, 'the scale of B', bScale.size);
    const weights = packedGemm(context, b, k, n, transB, bZero);
    const x = context.slot(aValue, 'row');
    const output = context.output(node.output, 'row');
    const step = { op: 'qgemm', x: x.id, m, weights, xZeroPoint: a.zeroPoint } as const;
    const multiplier = multipliers(node, a.scale, bScale, y?.scale);
    if (y) {
      const [min, max] = codeRange(y.dtype);
      context.emit({
        ...step,
        y: output.id,
        output: { kind: 'requantize', multiplier, bias, zeroPoint: y.zeroPoint, min, max },
      });
    } else if (bias) {
      emitDequantized(context, step, [m, n], bias, multiplier, output.id);
    } else {
      context.emit({ ...step, y: output.id, output: { kind: 'dequantize', scale: multiplier, bias: null } });
    }
    return true;
  },
});

/** The int32 bias belongs to the accumulator, before the conversion to float: two steps. */
function emitDequantized(
  context: LowerContext,
  step: Omit<QGemmStep, 'y' | 'output'>,
  [m, n]: [number, number],
  bias: Int32Array,
  scale: Float32Array,
  y: number,
): void {
  const sums = context.temporary('int32', [m, n]);
  context.emit({ ...step, y: sums.id, output: { kind: 'int32', bias } });
  const perColumn = scale.length > 1;
  context.emit({
    op: 'dequantize',
    x: sums.id,
    y,
    scale,
    zeroPoint: new Int32Array(scale.length),
    outer: perColumn ? m : 1,
    axisSize: perColumn ? n : 1,
    inner: perColumn ? 1 : m * n,
  });
}
