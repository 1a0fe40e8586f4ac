/** Trilu (ai.onnx 14): the upper or lower triangle of matrices, zero elsewhere. */
import { allocate, type DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, typeOf } from './families/inference';
import { scalarOf } from './families/values';

export const Trilu = defineOp({
  type: 'Trilu',
  since: [14],
  inferShape(context) {
    const { shape } = context.input(0);
    if (shape && shape.length < 2)
      throw modelError(context.node, 'rank 2 or more', 'input 0', `shape [${shape.join(', ')}]`);
    return [typeOf(context)];
  },
  run([x, kInput], { node }) {
    const [rows, columns] = x!.dims.slice(-2);
    const k = kInput ? scalarOf(kInput) : 0;
    const upper = node.attributes.int('upper', 1) !== 0;
    const from = x!.data as Float32Array;
    const data = allocate<DType>(x!.type, x!.size);
    const to = data as Float32Array;
    for (let i = 0; i < to.length; i++) {
      const diagonal = (i % columns) - (Math.floor(i / columns) % rows);
      if (upper ? diagonal >= k : diagonal <= k) to[i] = from[i];
    }
    return [new Tensor<DType>(x!.type, data, x!.dims)];
  },
});
