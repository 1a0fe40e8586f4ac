/** TopK (ai.onnx 1, 10, 11, 24): the k largest or smallest elements along an axis and their indices; ties by lower index. */
import type { Node } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, modelError } from './families/inference';
import { split3 } from './families/strided';
import { fromDoubles, scalarOf, toDoubles } from './families/values';

function countOf(node: Node, opset: number, kInput: Tensor | null | undefined): number | undefined {
  const k = opset < 10 ? node.attributes.int('k') : kInput ? scalarOf(kInput) : undefined;
  if (k !== undefined && !(Number.isInteger(k) && k >= 0)) throw modelError(node, 'an integer >= 0', 'k', k);
  return k;
}

export const TopK = defineOp({
  type: 'TopK',
  since: [1, 10, 11, 24],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { node, opset } = context;
    const { dtype, shape } = context.input(0);
    const k = countOf(node, opset, context.constant(1));
    if (!shape) return [{ dtype }, { dtype: 'int64' }];
    const axis = axisOf(node, node.attributes.int('axis', -1), shape.length);
    const size = shape[axis];
    if (k !== undefined && typeof size === 'number' && k > size) throw modelError(node, `at most ${size}`, 'k', k);
    const result = shape.map((dim, i) => (i === axis ? (k ?? context.unknownDim()) : dim));
    return [
      { dtype, shape: result },
      { dtype: 'int64', shape: result },
    ];
  },
  run([x, kInput], { node, opset }) {
    const axis = axisOf(node, node.attributes.int('axis', -1), x!.dims.length);
    const [outer, size, inner] = split3(x!.dims, axis);
    const k = countOf(node, opset, kInput) ?? 0;
    if (k > size) throw modelError(node, `at most ${size}`, 'k', k);
    const sign = node.attributes.int('largest', 1) !== 0 ? 1 : -1;
    const values = toDoubles(x!);
    const best = new Float64Array(outer * k * inner);
    const indices = new BigInt64Array(best.length);
    const order = Array.from({ length: size }, (_, i) => i);
    for (let o = 0; o < outer; o++) {
      for (let j = 0; j < inner; j++) {
        const at = (i: number): number => values[(o * size + i) * inner + j];
        const ranked = [...order].sort((a, b) => sign * (at(b) - at(a)) || a - b);
        for (let i = 0; i < k; i++) {
          best[(o * k + i) * inner + j] = at(ranked[i]);
          indices[(o * k + i) * inner + j] = BigInt(ranked[i]);
        }
      }
    }
    const dims = x!.dims.map((dim, i) => (i === axis ? k : dim));
    return [fromDoubles(x!.type, best, dims), new Tensor('int64', indices, dims)];
  },
});
