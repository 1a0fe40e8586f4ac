/**
 * FusedConv (com.microsoft 1): Conv, plus an optional tensor Z (input 3), then an activation with attribute
 * activation_params.
 */
import type { UnaryStep } from '../../binding';
import type { Node } from '../graph/graph';
import { Conv } from './conv';
import { defineOp } from './define-op';
import { inferConvolution } from './families/convolution';
import { combine, mapTensor } from './families/elementwise';
import { modelError } from './families/inference';

interface Activation {
  kind: UnaryStep['kind'];
  alpha: number;
  beta: number;
  compute(x: number): number;
}

/** The activation, null when there is none. */
function activationOf(node: Node): Activation | null {
  const name = node.attributes.string('activation', '');
  const [alpha = Number.NaN, beta = Number.NaN] = (node.attributes.floats('activation_params') ?? []).map(Math.fround);
  switch (name) {
    case '':
      return null;
    case 'Relu':
      return { kind: 'relu', alpha: 0, beta: 0, compute: (x) => Math.max(0, x) };
    case 'Sigmoid':
      return { kind: 'sigmoid', alpha: 0, beta: 0, compute: (x) => 1 / (1 + Math.exp(-x)) };
    case 'Tanh':
      return { kind: 'tanh', alpha: 0, beta: 0, compute: Math.tanh };
    case 'LeakyRelu':
      return { kind: 'leaky_relu', alpha, beta: 0, compute: (x) => (x < 0 ? alpha * x : x) };
    case 'Clip':
      return { kind: 'clip', alpha, beta, compute: (x) => Math.min(beta, Math.max(alpha, x)) };
    case 'HardSigmoid':
      return { kind: 'hard_sigmoid', alpha, beta, compute: (x) => Math.max(0, Math.min(1, alpha * x + beta)) };
    default:
      throw modelError(node, 'Relu, Sigmoid, Tanh, LeakyRelu, Clip or HardSigmoid', 'activation', name);
  }
}

export const FusedConv = defineOp({
  type: 'FusedConv',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    activationOf(context.node);
    return [{ dtype: context.input(0).dtype, shape: inferConvolution(context, 0, 1) }];
  },
  run(inputs, context) {
    const { node } = context;
    const [product] = Conv.run(inputs.slice(0, 3), context);
    const z = inputs[3];
    const sum = z ? combine(product, z, { float: (a, b) => a + b }, node) : product;
    const activation = activationOf(node);
    return [activation ? mapTensor(sum, activation.compute) : sum];
  },
  lower(context) {
    const { node } = context;
    if (node.input(3) || !Conv.lower!(context)) return false;
    const activation = activationOf(node);
    if (activation) {
      const y = context.slot(node.output, 'nhwc').id;
      const { kind, alpha, beta } = activation;
      context.emit({ op: 'unary', kind, x: y, y, alpha, beta });
    }
    return true;
  },
});
