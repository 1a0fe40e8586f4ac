/** MatMulInteger (ai.onnx 10): the int32 accumulator of a matrix product of codes. Inputs: A, B, a_zp, b_zp. */
import { defineOp } from './define-op';
import { checkType } from './families/inference';
import { inferMatMul } from './families/matmul';
import { lowerQMatMul, multiplyCodes } from './families/qmatmul';
import { inputParameters } from './families/run-time-input';
import { fromDoubles } from './families/values';

export const MatMulInteger = defineOp({
  type: 'MatMulInteger',
  since: [10],
  inferShape(context) {
    checkType(context, 0, 'uint8', 'int8');
    checkType(context, 1, 'uint8', 'int8');
    return [{ dtype: 'int32', shape: inferMatMul(context, 0, 1) }];
  },
  run([a, b, aZero, bZero], { node }) {
    const { sums, plan } = multiplyCodes(node, a!, aZero ?? null, b!, bZero ?? null);
    return [fromDoubles('int32', sums, plan.dims)];
  },
  lower(context) {
    const { node } = context;
    const parameters = inputParameters(context, node.requiredInput(0), null, node.input(2));
    if (parameters === undefined) return false;
    const inputs = { a: 0, b: 1, bZeroPoint: 3 };
    const output = { kind: 'int32', bias: null } as const;
    return lowerQMatMul(context, inputs, parameters, output, () => context.output(node.output, 'row').id);
  },
});
