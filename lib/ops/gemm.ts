/** Gemm (ai.onnx 7, 9, 11, 13): alpha * A' * B' + beta * C of matrices, A' and B' being optionally transposed. */
import type { Dim, Node } from '../graph/graph';
import { broadcastStrides } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp, type InferContext, type LowerContext, type Slot } from './define-op';
import { clampRange, clampValues } from './families/clamp';
import { combine } from './families/elementwise';
import { conflicts, modelError, shapeOfRank } from './families/inference';
import { broadcastOperand } from './families/lowering';
import { multiply, planMatMul } from './families/matmul';
import { transpose } from './families/strided';
import { fromDoubles, toDoubles } from './families/values';

const { fround } = Math;

function options(node: Node): { transA: boolean; transB: boolean; alpha: number; beta: number } {
  const { attributes } = node;
  return {
    transA: attributes.int('transA', 0) !== 0,
    transB: attributes.int('transB', 0) !== 0,
    alpha: fround(attributes.float('alpha', 1)),
    beta: fround(attributes.float('beta', 1)),
  };
}

/** [M, N] from the shapes of A and B. */
export function inferGemm(context: InferContext, aIndex: number, bIndex: number): Dim[] {
  const { transA, transB } = options(context.node);
  const a = shapeOfRank(context, aIndex, 2);
  const b = shapeOfRank(context, bIndex, 2);
  const [m, k] = a ? (transA ? [a[1], a[0]] : a) : [context.unknownDim(), context.unknownDim()];
  const [kB, n] = b ? (transB ? [b[1], b[0]] : b) : [context.unknownDim(), context.unknownDim()];
  if (conflicts(k, kB)) throw modelError(context.node, 'equal inner dimensions', 'A and B', `${k} and ${kB}`);
  return [m, n];
}

/** C as a vector of N elements, scaled by beta, when it is constant and does not vary by row. */
function biasVector(context: LowerContext, n: number, beta: number): Float32Array | undefined {
  const c = context.constant(context.node.input(2));
  if (c?.type !== 'float32') return undefined;
  if (c.size !== 1 && (c.size !== n || c.dims[c.dims.length - 1] !== n)) return undefined;
  const data = c.data as Float32Array;
  return Float32Array.from({ length: n }, (_, i) => data[c.size === 1 ? 0 : i] * beta);
}

export const Gemm = defineOp({
  type: 'Gemm',
  since: [7, 9, 11, 13],
  quant: {
    kind: 'compute',
    weight: 1,
    bias: 2,
    axis: (node) => (options(node).transB ? 0 : 1),
    when: (node) => !options(node).transA || 'A is transposed',
  },
  inferShape: (context) => [{ dtype: context.input(0).dtype, shape: inferGemm(context, 0, 1) }],
  run([a, b, c], { node }) {
    const { transA, transB, alpha, beta } = options(node);
    for (const [i, { dims }] of [a!, b!].entries()) {
      if (dims.length !== 2) throw modelError(node, 'rank 2', `input ${i}`, `shape [${dims.join(', ')}]`);
    }
    const left = transA ? transpose(a!, [1, 0]) : a!;
    const right = transB ? transpose(b!, [1, 0]) : b!;
    const plan = planMatMul(node, left.dims, right.dims);
    const product = multiply(plan, toDoubles(left), toDoubles(right));
    for (let i = 0; i < product.length; i++) product[i] *= alpha;
    if (c && beta !== 0) {
      const scaled = new Tensor(
        'float64',
        toDoubles(c).map((v) => v * beta),
        c.dims,
      );
      const sum = combine(new Tensor('float64', product, plan.dims), scaled, { float: (p, q) => p + q }, node);
      product.set(sum.data as Float64Array);
    }
    clampValues(product, clampRange(node));
    return [fromDoubles(a!.type, product, plan.dims)];
  },
  lower(context) {
    const { node } = context;
    const { transA, transB, alpha, beta } = options(node);
    const aValue = node.requiredInput(0);
    const bValue = node.requiredInput(1);
    if (context.dtype(aValue) !== 'float32') return false;
    const [m, n] = context.shape(node.output);
    const aShape = context.shape(aValue);
    const k = aShape[transA ? 0 : 1];
    const b = context.constant(bValue);
    const c = beta === 0 ? null : node.input(2);
    const bias = c ? biasVector(context, n, beta) : undefined;
    const addsMatrix = c !== null && bias === undefined;
    if (addsMatrix && beta !== 1) return false;
    const a = transA ? transposed(context, context.slot(aValue, 'row')) : context.slot(aValue, 'row');
    const y = context.output(node.output, 'row');
    const clamp = clampRange(node);
    const product = addsMatrix ? context.temporary('float32', [m, n]) : y;
    if (b) {
      const weights = context.shared(b, `gemm_f32/${transB ? 'nk' : 'kn'}/${alpha}`, () =>
        context.pack.packGemmF32(scaled(b.data as Float32Array, alpha), k, n, transB),
      );
      const limits = addsMatrix ? { min: Number.NEGATIVE_INFINITY, max: Number.POSITIVE_INFINITY } : clamp;
      context.emit({ op: 'gemm', x: a.id, y: product.id, m, weights, bias: bias ?? null, ...limits });
    } else {
      if (alpha !== 1 || bias) return false;
      const right = transB ? transposed(context, context.slot(bValue, 'row')) : context.slot(bValue, 'row');
      const batchOffsets = Int32Array.of(0, 0, 0);
      context.emit({ op: 'matmul', a: a.id, b: right.id, y: product.id, m, n, k, batchOffsets });
    }
    if (addsMatrix) {
      const operand = broadcastOperand(context, c, [m, n], 'row');
      const strides = broadcastStrides([m, n], [m, n]);
      context.emit({
        op: 'binary',
        kind: 'add',
        a: product.id,
        b: operand.slot.id,
        y: y.id,
        shape: [m, n],
        aStrides: strides,
        bStrides: operand.strides,
      });
    }
    const clampLeft = (addsMatrix || !b) && (Number.isFinite(clamp.min) || Number.isFinite(clamp.max));
    if (clampLeft) context.emit({ op: 'unary', kind: 'clip', x: y.id, y: y.id, alpha: clamp.min, beta: clamp.max });
    return true;
  },
});

function scaled(values: Float32Array, factor: number): Float32Array {
  return factor === 1 ? values : values.map((v) => v * factor);
}

function transposed(context: LowerContext, x: Slot): Slot {
  const [rows, columns] = x.shape;
  const y = context.temporary(x.dtype, [columns, rows]);
  context.emit({ op: 'strided_copy', x: x.id, y: y.id, shape: [columns, rows], strides: [1, columns], offset: 0 });
  return y;
}
