/** InstanceNormalization (ai.onnx 1, 6, 22): each channel of each item to mean 0 and variance 1, then scale and bias. */
import { sizeOf } from '../tensor/shape';
import { defineOp } from './define-op';
import { typeOf } from './families/inference';
import { NORMALIZATION_TRAIT, normalizeRows } from './families/normalization';
import { spread } from './families/quantization';
import { fromDoubles, toDoubles } from './families/values';

export const InstanceNormalization = defineOp({
  type: 'InstanceNormalization',
  since: [1, 6, 22],
  quant: NORMALIZATION_TRAIT,
  inferShape: (context) => [typeOf(context)],
  run([x, scale, bias], { node }) {
    const channels = x!.dims[1] ?? 1;
    const plane = sizeOf(x!.dims.slice(2));
    const { values } = normalizeRows(toDoubles(x!), plane, Math.fround(node.attributes.float('epsilon', 1e-5)));
    const factors = spread(node, 'the scale', scale, channels);
    const offsets = spread(node, 'the bias', bias, channels);
    for (let i = 0; i < values.length; i++) {
      const c = Math.floor(i / plane) % channels;
      values[i] = values[i] * factors[c] + offsets[c];
    }
    return [fromDoubles(x!.type, values, x!.dims)];
  },
});
