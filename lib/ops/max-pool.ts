/** MaxPool (ai.onnx 1, 8, 10, 11, 12, 22): the largest element of each window, for floats and 8-bit codes. */
import { allocate, type DataOf } from '../tensor/dtype';
import { sizeOf, stridesOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { forEachWindow, inferPooling } from './families/pooling';
import { resolveWindow, windowAttributes, windowGeometry } from './families/window';

export const MaxPool = defineOp({
  type: 'MaxPool',
  since: [1, 8, 10, 11, 12, 22],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const shape = inferPooling(context);
    return [
      { dtype: context.input(0).dtype, shape },
      { dtype: 'int64', shape },
    ];
  },
  run([x], { node, outputCount }) {
    const window = resolveWindow(node, windowAttributes(node), x!.dims.slice(2));
    const planes = x!.dims[0] * x!.dims[1];
    const dims = [x!.dims[0], x!.dims[1], ...window.output];
    const source = x!.data as DataOf['float32'];
    const out = allocate(x!.type, sizeOf(dims)) as DataOf['float32'];
    const indices = new BigInt64Array(outputCount > 1 ? out.length : 0);
    const columnMajor = node.attributes.int('storage_order', 0) !== 0;
    forEachWindow(planes, window, (at, taps, count) => {
      let best = taps[0];
      for (let i = 1; i < count; i++) if (source[taps[i]] > source[best]) best = taps[i];
      out[at] = source[best];
      if (indices.length > 0) indices[at] = BigInt(columnMajor ? columnMajorIndex(best, window.input) : best);
    });
    const y = new Tensor(x!.type, out, dims);
    return outputCount > 1 ? [y, new Tensor('int64', indices, dims)] : [y];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    const dtype = context.dtype(value);
    const wantsIndices = node.outputs[1] !== undefined && node.outputs[1] !== null;
    if (wantsIndices || (dtype !== 'float32' && dtype !== 'uint8' && dtype !== 'int8')) return false;
    const window = resolveWindow(node, windowAttributes(node), shape.slice(2));
    const x = context.slot(value, 'nhwc');
    const y = context.output(node.output, 'nhwc');
    context.emit({ op: 'max_pool', x: x.id, y: y.id, ...windowGeometry(window, shape[0], shape[1]) });
    return true;
  },
});

/** The same element's index when each plane is stored with its first spatial axis fastest. */
function columnMajorIndex(at: number, spatial: readonly number[]): number {
  const plane = sizeOf(spatial);
  const inPlane = at % plane;
  const rowMajor = stridesOf(spatial);
  let index = at - inPlane;
  let step = 1;
  for (let axis = 0; axis < spatial.length; axis++) {
    index += (Math.floor(inPlane / rowMajor[axis]) % spatial[axis]) * step;
    step *= spatial[axis];
  }
  return index;
}
