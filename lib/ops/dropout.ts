/** Dropout (ai.onnx 7, 10, 12, 13, 22) in inference form: the identity, with a mask of ones. */
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, shapeAs, typeOf } from './families/inference';
import { lowerIdentity } from './families/views';
import { scalarOf } from './families/values';

export const Dropout = defineOp({
  type: 'Dropout',
  since: [7, 10, 12, 13, 22],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const training = context.constant(2);
    if (training && scalarOf(training) !== 0)
      throw modelError(context.node, 'false (inference)', 'training_mode', true);
    return [typeOf(context), shapeAs(context, context.opset < 10 ? context.input(0).dtype : 'bool')];
  },
  run([x], { opset, outputCount }) {
    if (outputCount < 2) return [x!];
    return [
      x!,
      new Tensor<'bool' | 'float32'>(
        opset < 10 ? (x!.type as 'float32') : 'bool',
        new Array<number>(x!.size).fill(1),
        x!.dims,
      ),
    ];
  },
  lower: (context) => !context.node.outputs[1] && lowerIdentity(context),
});
