/** QLinearAdd and QLinearMul: dequantize both operands, compute in float32, quantize. */
import type { QBinaryStep } from '../../../binding';
import { broadcastShapes, broadcastStrides, sizeOf } from '../../tensor/shape';
import { defineOp, type OpDefinition } from '../define-op';
import { broadcastDims, checkType } from './inference';
import { broadcastLayout, broadcastOperand, physicalOrder } from './lowering';
import { constantQuantization, dequantizeTensor, quantizationOf, quantizeTensor } from './quantization';
import { forEachRow } from './strided';

/** Inputs: A, A_scale, A_zp, B, B_scale, B_zp, C_scale, C_zp, with scalar parameters and numpy broadcasting. */
export function defineQBinary(init: {
  type: string;
  kind: QBinaryStep['kind'];
  compute(a: number, b: number): number;
}): OpDefinition {
  return defineOp({
    type: init.type,
    domain: 'com.microsoft',
    since: [1],
    inferShape(context) {
      const dtype = checkType(context, 0, 'uint8', 'int8');
      checkType(context, 3, 'uint8', 'int8');
      const shape = broadcastDims(context, [context.input(0).shape, context.input(3).shape]);
      return [{ dtype: context.optionalInput(7)?.dtype ?? dtype, shape }];
    },
    run([a, aScale, aZero, b, bScale, bZero, cScale, cZero], { node }) {
      const left = dequantizeTensor(a!, quantizationOf(node, 'A', aScale, aZero, a!.type));
      const right = dequantizeTensor(b!, quantizationOf(node, 'B', bScale, bZero, b!.type));
      const c = quantizationOf(node, 'C', cScale, cZero, cZero?.type ?? a!.type);
      const shape = broadcastShapes([a!.dims, b!.dims], `node "${node.name}" (${node.op})`);
      const values = new Float32Array(sizeOf(shape));
      if (left.length === values.length && right.length === values.length) {
        for (let i = 0; i < values.length; i++) values[i] = init.compute(left[i], right[i]);
        return [quantizeTensor(values, shape, c)];
      }
      const strides = [broadcastStrides(a!.dims, shape), broadcastStrides(b!.dims, shape)];
      const [stepA, stepB] = strides.map((s) => s[s.length - 1] ?? 0);
      const length = shape[shape.length - 1] ?? 1;
      forEachRow(shape, strides, (at, [rowA, rowB]) => {
        for (let i = 0; i < length; i++) values[at + i] = init.compute(left[rowA + i * stepA], right[rowB + i * stepB]);
      });
      return [quantizeTensor(values, shape, c)];
    },
    lower(context) {
      const { node } = context;
      const [aValue, bValue] = [node.requiredInput(0), node.requiredInput(3)];
      const a = constantQuantization(context, 'A', 1, context.dtype(aValue));
      const b = constantQuantization(context, 'B', 4, context.dtype(bValue));
      const c = constantQuantization(context, 'C', 6, context.dtype(node.output));
      if (!a || !b || !c) return false;
      // A sum with a negative scale is how files write a difference.
      const isDifference = init.kind === 'add' && b.scale < 0;
      if (a.scale < 0 || (b.scale < 0 && !isDifference)) return false;
      const shape = context.shape(node.output);
      const layout = broadcastLayout(context, [aValue, bValue], shape);
      const left = broadcastOperand(context, aValue, shape, layout);
      const right = broadcastOperand(context, bValue, shape, layout);
      context.emit({
        op: 'qbinary',
        kind: isDifference ? 'sub' : init.kind,
        a: left.slot.id,
        b: right.slot.id,
        y: context.output(node.output, layout).id,
        shape: physicalOrder(shape, layout),
        aStrides: left.strides,
        bStrides: right.strides,
        aScale: a.scale,
        aZeroPoint: a.zeroPoint,
        bScale: Math.abs(b.scale),
        bZeroPoint: b.zeroPoint,
        yScale: c.scale,
        yZeroPoint: c.zeroPoint,
      });
      return true;
    },
  });
}
