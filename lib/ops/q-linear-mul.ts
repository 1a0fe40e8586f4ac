/** QLinearMul (com.microsoft 1): the product of dequantized operands, quantized. */
import { defineQBinary } from './families/qbinary';

export const QLinearMul = defineQBinary({ type: 'QLinearMul', kind: 'mul', compute: (a, b) => a * b });
