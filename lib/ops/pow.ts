/** Pow (ai.onnx 7, 12, 13, 15): a to the power b with broadcasting; the result has the type of a. */
import { defineBinary } from './families/elementwise';
import { broadcastDims } from './families/inference';
import type { OpDefinition } from './define-op';

const SameTypePow = defineBinary({ type: 'Pow', since: [7, 12, 13, 15], kind: 'pow', float: (a, b) => a ** b });

export const Pow: OpDefinition = {
  ...SameTypePow,
  inferShape(context) {
    const base = context.input(0);
    return [{ dtype: base.dtype, shape: broadcastDims(context, [base.shape, context.input(1).shape]) }];
  },
};
