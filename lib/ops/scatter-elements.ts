/** ScatterElements (ai.onnx 11, 13, 16, 18): the data with elements at given indices of an axis replaced or combined. */
import type { DType } from '../tensor/dtype';
import { stridesOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, modelError, typeOf } from './families/inference';
import { indicesInto } from './families/indices';
import { copyOf, reducerOf } from './families/scatter';

export const ScatterElements = defineOp({
  type: 'ScatterElements',
  since: [11, 13, 16, 18],
  inferShape: (context) => [typeOf(context)],
  run([x, indices, updates], { node }) {
    const rank = x!.dims.length;
    const axis = axisOf(node, node.attributes.int('axis', 0), rank);
    const { dims } = indices!;
    const fits = dims.length === rank && dims.every((dim, i) => i === axis || dim <= x!.dims[i]);
    if (!fits) throw modelError(node, `a shape within [${x!.dims.join(', ')}]`, 'the indices', dims);
    if (updates!.dims.join() !== dims.join())
      throw modelError(node, `shape [${dims.join(', ')}]`, 'the updates', updates!.dims);
    const reduce = reducerOf(node);
    const picks = indicesInto(node, indices!, x!.dims[axis]);
    const strides = stridesOf(x!.dims);
    const steps = stridesOf(dims);
    const data = copyOf(x!);
    const out = data as Float32Array;
    const from = updates!.data as Float32Array;
    for (let i = 0; i < picks.length; i++) {
      let at = picks[i] * strides[axis];
      for (let d = 0; d < rank; d++) if (d !== axis) at += (Math.floor(i / steps[d]) % dims[d]) * strides[d];
      out[at] = reduce(out[at], from[i]);
    }
    return [new Tensor<DType>(x!.type, data, x!.dims)];
  },
});
