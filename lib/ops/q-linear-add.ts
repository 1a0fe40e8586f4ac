/** QLinearAdd (com.microsoft 1): the sum of dequantized operands, quantized. */
import { defineQBinary } from './families/qbinary';

export const QLinearAdd = defineQBinary({ type: 'QLinearAdd', kind: 'add', compute: (a, b) => a + b });
