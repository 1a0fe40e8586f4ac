/** Operators on codes that a table of 256 entries computes: the float32 function between dequantize and quantize. */
import type { Node } from '../../graph/graph';
import { defineOp, type OpDefinition } from '../define-op';
import { checkType, shapeAs } from './inference';
import { existingLayout } from './lowering';
import { applyTable, codeTable, constantQuantization, quantizationOf } from './quantization';

/** Inputs: X, X_scale, X_zp, Y_scale, Y_zp, with scalar parameters. */
export function defineQTable(init: { type: string; functionOf(node: Node): (x: number) => number }): OpDefinition {
  return defineOp({
    type: init.type,
    domain: 'com.microsoft',
    since: [1],
    inferShape(context) {
      const dtype = checkType(context, 0, 'uint8', 'int8');
      return [shapeAs(context, context.optionalInput(4)?.dtype ?? dtype)];
    },
    run([x, xScale, xZero, yScale, yZero], { node }) {
      const from = quantizationOf(node, 'X', xScale, xZero, x!.type);
      const to = quantizationOf(node, 'Y', yScale, yZero, yZero?.type ?? x!.type);
      return [applyTable(x!, codeTable(from, to, init.functionOf(node)), to.dtype)];
    },
    lower(context) {
      const { node } = context;
      const value = node.requiredInput(0);
      const from = constantQuantization(context, 'X', 1, context.dtype(value));
      const to = constantQuantization(context, 'Y', 3, context.dtype(node.output));
      if (!from || !to) return false;
      const layout = existingLayout(context, value);
      const x = context.slot(value, layout);
      const y = context.output(node.output, layout);
      context.emit({ op: 'lut', x: x.id, y: y.id, table: codeTable(from, to, init.functionOf(node)) });
      return true;
    },
  });
}
