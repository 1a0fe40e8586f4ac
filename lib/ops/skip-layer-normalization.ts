/**
 * SkipLayerNormalization (com.microsoft 1): LayerNormalization of input + skip (+ bias) over the last axis. Inputs: input,
 * skip, gamma, beta?, bias?. Outputs: result, (mean, inverse deviation: training only), the sum.
 */
import type { Node } from '../graph/graph';
import { broadcastStrides } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { combine } from './families/elementwise';
import { modelError, typeOf } from './families/inference';
import { normalizeRows } from './families/normalization';
import { spread } from './families/quantization';
import { fromDoubles, toDoubles } from './families/values';

const PLUS = { float: (a: number, b: number) => a + b };

function epsilonOf(node: Node): number {
  return Math.fround(node.attributes.float('epsilon', 1e-12));
}

export const SkipLayerNormalization = defineOp({
  type: 'SkipLayerNormalization',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    const { shape, dtype } = context.input(0);
    if (shape && shape.length < 2)
      throw modelError(context.node, 'rank 2 or 3', 'input 0', `shape [${shape.join(', ')}]`);
    const statistics = { dtype, shape: shape && [...shape.slice(0, -1), 1] };
    return [typeOf(context), statistics, statistics, typeOf(context)];
  },
  run([x, skip, gamma, beta, bias], { node, outputCount }) {
    const { dims, type } = x!;
    const size = dims[dims.length - 1];
    let sum: Tensor = combine(x!, skip!, PLUS, node);
    if (bias) sum = combine(sum, bias, PLUS, node);
    const { values, means, inverses } = normalizeRows(toDoubles(sum), size, epsilonOf(node));
    const scales = spread(node, 'gamma', gamma, size);
    const offsets = spread(node, 'beta', beta, size);
    for (let i = 0; i < values.length; i++) values[i] = values[i] * scales[i % size] + offsets[i % size];
    const statistics = [...dims.slice(0, -1), 1];
    const outputs = [
      fromDoubles(type, values, dims),
      fromDoubles(type, means, statistics),
      fromDoubles(type, inverses, statistics),
      sum,
    ];
    return outputs.slice(0, outputCount);
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    if (context.dtype(value) !== 'float32' || node.outputs[1] || node.outputs[2]) return false;
    const shape = [...context.shape(value)];
    const size = shape[shape.length - 1];
    const sumValue = node.outputs[3];
    const addends = [node.requiredInput(1), node.input(4)].filter((v) => v !== null);
    const gamma = context.slot(node.requiredInput(2), 'row').id;
    const betaValue = node.input(3);
    const beta = betaValue ? context.slot(betaValue, 'row').id : null;
    const dense = broadcastStrides(shape, shape);
    let sum = context.slot(value, 'row').id;
    for (const [i, addend] of addends.entries()) {
      const isLast = i === addends.length - 1;
      const y = isLast && sumValue ? context.output(sumValue, 'row') : context.temporary('float32', shape);
      const bStrides = broadcastStrides(context.shape(addend), shape);
      const b = context.slot(addend, 'row').id;
      context.emit({ op: 'binary', kind: 'add', a: sum, b, y: y.id, shape, aStrides: dense, bStrides });
      sum = y.id;
    }
    const y = context.output(node.output, 'row').id;
    const outer = shape.slice(0, -1).reduce((product, dim) => product * dim, 1);
    context.emit({ op: 'layer_norm', x: sum, scale: gamma, bias: beta, y, outer, size, epsilon: epsilonOf(node) });
    return true;
  },
});
