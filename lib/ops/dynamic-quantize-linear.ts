/** DynamicQuantizeLinear (ai.onnx 11): uint8 codes with scale and zero point from the tensor's own range. */
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { shapeAs } from './families/inference';
import { existingLayout } from './families/lowering';
import { dynamicQuantization, quantizeTensor } from './families/quantization';
import { quantizeInRun } from './families/run-time-input';

export const DynamicQuantizeLinear = defineOp({
  type: 'DynamicQuantizeLinear',
  since: [11],
  inferShape: (context) => [shapeAs(context, 'uint8'), { dtype: 'float32', shape: [] }, { dtype: 'uint8', shape: [] }],
  run([x]) {
    const values = x!.data as Float32Array;
    const quantization = dynamicQuantization(values);
    return [
      quantizeTensor(values, x!.dims, quantization),
      new Tensor('float32', [quantization.scale], []),
      new Tensor('uint8', [quantization.zeroPoint], []),
    ];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    if (context.dtype(value) !== 'float32') return false;
    const layout = existingLayout(context, value);
    const [codes, scale, zeroPoint] = node.outputs;
    quantizeInRun(context, value, layout, {
      ...(codes && { codes: context.output(codes, layout) }),
      ...(scale && { scale: context.output(scale, 'row') }),
      ...(zeroPoint && { zeroPoint: context.output(zeroPoint, 'row') }),
    });
    return true;
  },
});
