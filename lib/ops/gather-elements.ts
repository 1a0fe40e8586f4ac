/** GatherElements (ai.onnx 11, 13): for each position of the indices, the element of the data at that index of one axis. */
import { allocate, type DType } from '../tensor/dtype';
import { stridesOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, modelError } from './families/inference';
import { indicesInto } from './families/indices';

export const GatherElements = defineOp({
  type: 'GatherElements',
  since: [11, 13],
  quant: { kind: 'agnostic' },
  inferShape: (context) => [{ dtype: context.input(0).dtype, shape: context.input(1).shape }],
  run([x, indices], { node }) {
    const rank = x!.dims.length;
    const axis = axisOf(node, node.attributes.int('axis', 0), rank);
    const fits = indices!.dims.length === rank && indices!.dims.every((dim, i) => i === axis || dim <= x!.dims[i]);
    if (!fits) throw modelError(node, `a shape within [${x!.dims.join(', ')}]`, 'the indices', indices!.dims);
    const picks = indicesInto(node, indices!, x!.dims[axis]);
    const strides = stridesOf(x!.dims);
    const steps = stridesOf(indices!.dims);
    const from = x!.data as Float32Array;
    const data = allocate<DType>(x!.type, picks.length);
    const to = data as Float32Array;
    for (let i = 0; i < picks.length; i++) {
      let at = picks[i] * strides[axis];
      for (let d = 0; d < rank; d++) if (d !== axis) at += (Math.floor(i / steps[d]) % indices!.dims[d]) * strides[d];
      to[i] = from[at];
    }
    return [new Tensor<DType>(x!.type, data, indices!.dims)];
  },
});
