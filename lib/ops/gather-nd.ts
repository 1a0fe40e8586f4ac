/** GatherND (ai.onnx 11, 12, 13): slices of the data named by index tuples. */
import { allocate, type DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { tupleOffsets } from './families/tuples';

export const GatherND = defineOp({
  type: 'GatherND',
  since: [11, 12, 13],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { dtype, shape } = context.input(0);
    const indices = context.input(1).shape;
    const depth = indices?.[indices.length - 1];
    if (!shape || !indices || typeof depth !== 'number') return [{ dtype }];
    const batchDims = context.node.attributes.int('batch_dims', 0);
    return [{ dtype, shape: [...indices.slice(0, -1), ...shape.slice(batchDims + depth)] }];
  },
  run([x, indices], { node }) {
    const batchDims = node.attributes.int('batch_dims', 0);
    const { offsets, slice } = tupleOffsets(node, x!.dims, indices!, batchDims);
    const from = x!.data as Float32Array;
    const data = allocate<DType>(x!.type, offsets.length * slice);
    const to = data as Float32Array;
    for (let i = 0; i < offsets.length; i++) for (let j = 0; j < slice; j++) to[i * slice + j] = from[offsets[i] + j];
    const depth = indices!.dims[indices!.dims.length - 1];
    return [new Tensor<DType>(x!.type, data, [...indices!.dims.slice(0, -1), ...x!.dims.slice(batchDims + depth)])];
  },
});
