/** Gelu of x + bias, the bias running along the last axis: what exporters' optimizers make of a dense layer's end. */
import type { UnaryStep } from '../../../binding';
import { defineOp, type OpDefinition } from '../define-op';
import { broadcastStrides } from '../../tensor/shape';
import { combine, lowerUnary, mapTensor } from './elementwise';
import { typeOf } from './inference';

export function defineBiasedGelu(type: string, kind: UnaryStep['kind'], compute: (x: number) => number): OpDefinition {
  return defineOp({
    type,
    domain: 'com.microsoft',
    since: [1],
    quant: { kind: 'elementwise', floatOnly: (node) => node.input(1) !== null },
    inferShape: (context) => [typeOf(context)],
    run([x, bias], { node }) {
      const sum = bias ? combine(x!, bias, { float: (a, b) => a + b }, node) : x!;
      return [mapTensor(sum, compute)];
    },
    lower(context) {
      const { node } = context;
      const value = node.requiredInput(0);
      const biasValue = node.input(1);
      if (!biasValue) return lowerUnary(context, kind);
      if (context.dtype(value) !== 'float32') return false;
      const shape = [...context.shape(value)];
      const y = context.output(node.output, 'row');
      const bias = context.slot(biasValue, 'row').id;
      const aStrides = broadcastStrides(shape, shape);
      const bStrides = broadcastStrides(context.shape(biasValue), shape);
      const sum = context.temporary('float32', shape).id;
      context.emit({
        op: 'binary',
        kind: 'add',
        a: context.slot(value, 'row').id,
        b: bias,
        y: sum,
        shape,
        aStrides,
        bStrides,
      });
      context.emit({ op: 'unary', kind, x: sum, y: y.id, alpha: 0, beta: 0 });
      return true;
    },
  });
}
