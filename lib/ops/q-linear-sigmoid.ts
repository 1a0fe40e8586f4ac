/** QLinearSigmoid (com.microsoft 1): Sigmoid on codes. */
import { defineQTable } from './families/qtable';

export const QLinearSigmoid = defineQTable({
  type: 'QLinearSigmoid',
  functionOf: () => (x) => 1 / (1 + Math.exp(-x)),
});
