/** ConvInteger (ai.onnx 10): the int32 accumulator of a convolution of codes. Inputs: x, w, x_zp, w_zp. */
import { defineOp } from './define-op';
import { convolveCodes, inferConvolution, lowerQConv } from './families/convolution';
import { checkType } from './families/inference';
import { inputParameters } from './families/run-time-input';
import { fromDoubles } from './families/values';

export const ConvInteger = defineOp({
  type: 'ConvInteger',
  since: [10],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 1, 'uint8', 'int8');
    return [{ dtype: 'int32', shape: inferConvolution(context, 0, 1) }];
  },
  run([x, w, xZero, wZero], { node }) {
    const { sums, dims } = convolveCodes(node, x!, xZero ?? null, w!, wZero ?? null);
    return [fromDoubles('int32', sums, dims)];
  },
  lower(context) {
    const { node } = context;
    const parameters = inputParameters(context, node.requiredInput(0), null, node.input(2));
    if (parameters === undefined) return false;
    const output = { kind: 'int32', bias: null } as const;
    return lowerQConv(context, { x: 0, w: 1, wZeroPoint: 3 }, parameters, output);
  },
});
