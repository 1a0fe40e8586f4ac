/** CumSum (ai.onnx 11, 14): running sums along an axis, optionally exclusive or from the end. */
import { defineOp } from './define-op';
import { axisOf, typeOf } from './families/inference';
import { split3 } from './families/strided';
import { fromDoubles, scalarOf, toDoubles } from './families/values';

export const CumSum = defineOp({
  type: 'CumSum',
  since: [11, 14],
  quant: { kind: 'elementwise', inputs: [0], floatOnly: () => true },
  inferShape: (context) => [typeOf(context)],
  run([x, axisInput], { node }) {
    const [outer, size, inner] = split3(x!.dims, axisOf(node, scalarOf(axisInput!), x!.dims.length));
    const exclusive = node.attributes.int('exclusive', 0) !== 0;
    const reverse = node.attributes.int('reverse', 0) !== 0;
    const values = toDoubles(x!);
    for (let o = 0; o < outer; o++) {
      for (let j = 0; j < inner; j++) {
        let sum = 0;
        for (let step = 0; step < size; step++) {
          const at = (o * size + (reverse ? size - 1 - step : step)) * inner + j;
          const value = values[at];
          values[at] = exclusive ? sum : sum + value;
          sum += value;
        }
      }
    }
    return [fromDoubles(x!.type, values, x!.dims)];
  },
});
