/** MatMul (ai.onnx 1, 9, 13): numpy.matmul. */
import { sizeOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { inferMatMul, multiply, planMatMul } from './families/matmul';
import { fromDoubles, toDoubles } from './families/values';

export const MatMul = defineOp({
  type: 'MatMul',
  since: [1, 9, 13],
  quant: { kind: 'compute', weight: 1, axis: (_node, rank) => (rank === 2 ? 1 : undefined) },
  inferShape: (context) => [{ dtype: context.input(0).dtype, shape: inferMatMul(context, 0, 1) }],
  run([a, b], { node }) {
    const plan = planMatMul(node, a!.dims, b!.dims);
    return [fromDoubles(a!.type, multiply(plan, toDoubles(a!), toDoubles(b!)), plan.dims)];
  },
  lower(context) {
    const { node } = context;
    const aValue = node.requiredInput(0);
    const bValue = node.requiredInput(1);
    if (context.dtype(aValue) !== 'float32' || context.dtype(bValue) !== 'float32') return false;
    const plan = planMatMul(node, context.shape(aValue), context.shape(bValue));
    const { m, n, k, batchOffsets } = plan;
    const a = context.slot(aValue, 'row');
    const constant = context.constant(bValue);
    if (constant?.dims.length === 2) {
      const weights = context.shared(constant, 'gemm_f32/kn/1', () =>
        context.pack.packGemmF32(constant.data as Float32Array, k, n, false),
      );
      const rows = sizeOf(context.shape(aValue).slice(0, -1));
      const y = context.output(node.output, 'row');
      const [min, max] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
      context.emit({ op: 'gemm', x: a.id, y: y.id, m: rows, weights, bias: null, min, max });
      return true;
    }
    const b = context.slot(bValue, 'row');
    const y = context.output(node.output, 'row');
    context.emit({ op: 'matmul', a: a.id, b: b.id, y: y.id, m, n, k, batchOffsets });
    return true;
  },
});
