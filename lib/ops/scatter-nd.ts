/** ScatterND (ai.onnx 11, 13, 16, 18): the data with slices, named by index tuples, replaced or combined with updates. */
import type { DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, typeOf } from './families/inference';
import { copyOf, reducerOf } from './families/scatter';
import { tupleOffsets } from './families/tuples';

export const ScatterND = defineOp({
  type: 'ScatterND',
  since: [11, 13, 16, 18],
  inferShape: (context) => [typeOf(context)],
  run([x, indices, updates], { node }) {
    const reduce = reducerOf(node);
    const { offsets, slice } = tupleOffsets(node, x!.dims, indices!, 0);
    if (updates!.size !== offsets.length * slice) {
      throw modelError(node, `${offsets.length * slice} elements`, 'the updates', updates!.size);
    }
    const data = copyOf(x!);
    const out = data as Float32Array;
    const from = updates!.data as Float32Array;
    for (let i = 0; i < offsets.length; i++) {
      for (let j = 0; j < slice; j++) out[offsets[i] + j] = reduce(out[offsets[i] + j], from[i * slice + j]);
    }
    return [new Tensor<DType>(x!.type, data, x!.dims)];
  },
});
