/** 8-bit matrix products: the exact int32 accumulator in TypeScript and the native steps, for constant and computed B. */
import type { Codes, OutputSpec, PackedGemm } from '../../../binding';
import type { Node } from '../../graph/graph';
import { sizeOf } from '../../tensor/shape';
import type { Tensor } from '../../tensor/tensor';
import type { LowerContext, Slot } from '../define-op';
import { modelError } from './inference';
import { type MatMulPlan, multiply, planMatMul } from './matmul';
import { spread } from './quantization';
import type { RunTimeParameters } from './run-time-input';
import { scalarOf, toDoubles } from './values';

/**
 * sum over k of (A - a_zp) * (B - b_zp), wrapped to int32. a_zp: scalar, or one per row ([M], or A's shape with last
 * dimension 1); b_zp: scalar, or one per column ([N], or B's shape with second-last dimension 1).
 */
export function multiplyCodes(
  node: Node,
  a: Tensor,
  aZeroPoint: Tensor | null,
  b: Tensor,
  bZeroPoint: Tensor | null,
): { sums: Float64Array; plan: MatMulPlan } {
  const plan = planMatMul(node, a.dims, b.dims);
  const left = toDoubles(a);
  const right = toDoubles(b);
  const rowZeros = perRow(node, 'the zero point of a', aZeroPoint, a.dims);
  for (let i = 0; i < left.length; i++) left[i] -= rowZeros(Math.floor(i / plan.k));
  const columnZeros = perColumn(node, 'the zero point of b', bZeroPoint, b.dims);
  for (let i = 0; i < right.length; i++) right[i] -= columnZeros(i);
  const sums = multiply(plan, left, right);
  for (let i = 0; i < sums.length; i++) sums[i] |= 0;
  return { sums, plan };
}

/** Looks up a parameter of A by row number, counted over all leading dimensions. */
export function perRow(
  node: Node,
  name: string,
  parameter: Tensor | null,
  dims: readonly number[],
): (row: number) => number {
  if (!parameter || parameter.size === 1) {
    const value = parameter ? scalarOf(parameter) : 0;
    return () => value;
  }
  const values = toDoubles(parameter);
  const rows = sizeOf(dims.slice(0, -1));
  const m = dims[dims.length - 2] ?? 1;
  if (values.length !== rows && values.length !== m) {
    throw modelError(node, `1, ${m} or ${rows} elements`, name, `${values.length} elements`);
  }
  return (row) => values[row % values.length];
}

/** Looks up a parameter of B by element index. */
export function perColumn(
  node: Node,
  name: string,
  parameter: Tensor | null,
  dims: readonly number[],
): (at: number) => number {
  if (!parameter || parameter.size === 1) {
    const value = parameter ? scalarOf(parameter) : 0;
    return () => value;
  }
  const values = toDoubles(parameter);
  const n = dims.length > 1 ? dims[dims.length - 1] : 1;
  const k = dims[Math.max(0, dims.length - 2)];
  const matrices = sizeOf(dims.slice(0, -2));
  if (values.length !== n && values.length !== n * matrices) {
    throw modelError(node, `1, ${n} or ${n * matrices} elements`, name, `${values.length} elements`);
  }
  if (values.length === n) return (at) => values[at % n];
  return (at) => values[Math.floor(at / (k * n)) * n + (at % n)];
}

/** Emits {@link emitQMatMul} for the inputs of these indices. */
export function lowerQMatMul(
  context: LowerContext,
  inputs: { a: number; b: number; bZeroPoint: number },
  aParameters: number | RunTimeParameters,
  output: OutputSpec,
  allocateOutput: () => number,
): boolean {
  const aValue = context.node.requiredInput(inputs.a);
  const a = { shape: context.shape(aValue), slot: () => context.slot(aValue, 'row') };
  return emitQMatMul(context, a, inputs, aParameters, output, allocateOutput);
}

/**
 * Emits A x B on codes. B constant of rank 2 is packed once per process; otherwise B is packed in the run, and both have
 * one zero point that is known. `aParameters` is the zero point of A, or what an earlier step computes: then `output` is
 * not requantized, and its scale is that of B. `allocateOutput` gives the result's buffer once a road is sure. False when
 * parameters are computed or vary where the step cannot.
 */
export function emitQMatMul(
  context: LowerContext,
  a: { shape: readonly number[]; slot: () => Slot },
  inputs: { b: number; bZeroPoint: number },
  aParameters: number | RunTimeParameters,
  output: OutputSpec,
  allocateOutput: () => number,
): boolean {
  const { node } = context;
  const bValue = node.requiredInput(inputs.b);
  const zeroValue = node.input(inputs.bZeroPoint);
  const zero = context.constant(zeroValue);
  if (zeroValue && !zero) return false;
  const bShape = context.shape(bValue);
  const plan = planMatMul(node, a.shape, bShape);
  const b = context.constant(bValue);
  if (b && bShape.length === 2) {
    const weights = packedGemm(context, b, plan.k, plan.n, false, zero);
    const m = sizeOf(a.shape) / Math.max(1, plan.k);
    const x = a.slot().id;
    if (typeof aParameters === 'number') {
      context.emit({ op: 'qgemm', x, y: allocateOutput(), m, weights, xZeroPoint: aParameters, output });
      return true;
    }
    if (output.kind === 'requantize') return false;
    const xScale = output.kind === 'int32' ? null : (aParameters.scale?.id ?? null);
    const xZeroPoint = aParameters.zeroPoint.id;
    context.emit({ op: 'qgemm_dynamic', x, y: allocateOutput(), m, weights, xScale, xZeroPoint, output });
    return true;
  }
  if (typeof aParameters !== 'number') return false;
  if (zero && toDoubles(zero).some((z, _, all) => z !== all[0])) return false;
  context.emit({
    op: 'qmatmul',
    a: a.slot().id,
    b: context.slot(bValue, 'row').id,
    y: allocateOutput(),
    m: plan.m,
    n: plan.n,
    k: plan.k,
    batchOffsets: plan.batchOffsets,
    aZeroPoint: aParameters,
    bZeroPoint: zero ? scalarOf(zero) : 0,
    output,
  });
  return true;
}

/** Packs constant codes B (K x N, or N x K with `transposed`), shared by every use with the same zero points. */
export function packedGemm(
  context: LowerContext,
  b: Tensor,
  k: number,
  n: number,
  transposed: boolean,
  zeroPoint: Tensor | undefined,
): PackedGemm {
  const zeros = zeroPoint
    ? spread(context.node, 'the zero point of b', zeroPoint, zeroPoint.size === 1 ? 1 : n)
    : undefined;
  const codes = zeros?.some((z) => z !== 0) ? (zeroPoint!.data as Codes) : null;
  const key = `gemm/${transposed ? 'nk' : 'kn'}/${codes ? codes.join() : ''}`;
  return context.shared(b, key, () =>
    context.pack.packGemm(b.data as Codes, k, n, transposed ? k : n, transposed, codes),
  );
}
