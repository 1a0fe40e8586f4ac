/** OneHot (ai.onnx 9, 11): on-values at given indices of a new axis, off-values elsewhere. Indices out of range give none. */
import { allocate, type DType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, modelError } from './families/inference';
import { integersOf, scalarOf } from './families/values';

export const OneHot = defineOp({
  type: 'OneHot',
  since: [9, 11],
  inferShape(context) {
    const { node } = context;
    const { shape } = context.input(0);
    const { dtype } = context.input(2);
    if (!shape) return [{ dtype }];
    const axis = axisOf(node, node.attributes.int('axis', -1), shape.length + 1);
    const depth = context.constant(1);
    return [
      { dtype, shape: [...shape.slice(0, axis), depth ? scalarOf(depth) : context.unknownDim(), ...shape.slice(axis)] },
    ];
  },
  run([indices, depthInput, values], { node }) {
    const { dims } = indices!;
    const axis = axisOf(node, node.attributes.int('axis', -1), dims.length + 1);
    const depth = scalarOf(depthInput!);
    if (!Number.isInteger(depth) || depth < 1) throw modelError(node, 'a positive integer', 'depth', depth);
    if (values!.size !== 2) throw modelError(node, '2 elements', 'values', values!.size);
    const [off, on] = values!.data as Float32Array;
    const inner = sizeOf(dims.slice(axis));
    const data = allocate<DType>(values!.type, indices!.size * depth);
    const out = data as Float32Array;
    out.fill(off);
    integersOf(indices!).forEach((index, i) => {
      const hot = index < 0 ? index + depth : index;
      if (hot >= 0 && hot < depth) out[(Math.floor(i / inner) * depth + hot) * inner + (i % inner)] = on;
    });
    return [new Tensor<DType>(values!.type, data, [...dims.slice(0, axis), depth, ...dims.slice(axis)])];
  },
});
