/** QLinearLeakyRelu (com.microsoft 1): LeakyRelu on codes. */
import { defineQTable } from './families/qtable';

export const QLinearLeakyRelu = defineQTable({
  type: 'QLinearLeakyRelu',
  functionOf(node) {
    const alpha = Math.fround(node.attributes.float('alpha', 0.01));
    return (x) => (x >= 0 ? x : alpha * x);
  },
});
