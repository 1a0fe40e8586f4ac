/** Mul (ai.onnx 7, 13, 14): a * b with broadcasting; integers wrap. */
import { defineBinary } from './families/elementwise';

export const Mul = defineBinary({
  type: 'Mul',
  since: [7, 13, 14],
  kind: 'mul',
  quant: { kind: 'elementwise' },
  float: (a, b) => a * b,
  // The product of two 32-bit integers may exceed 2^53; imul keeps the low 32 bits exact, also for unsigned operands.
  integer: Math.imul,
  big: (a, b) => a * b,
});
