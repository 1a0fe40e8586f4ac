/** Split (ai.onnx 2, 11, 13, 18): cuts a tensor along an axis into given or equal parts. */
import type { Node } from '../graph/graph';
import { stridesOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, modelError } from './families/inference';
import { existingLayout, isNative, logicalStrides, physicalOrder } from './families/lowering';
import { stridedCopy } from './families/strided';
import { integersOf } from './families/values';

/** Sizes of the parts of an axis of `size` elements. */
function partsOf(node: Node, opset: number, splitInput: Tensor | null | undefined, size: number): number[] {
  const given = opset >= 13 ? splitInput && integersOf(splitInput) : node.attributes.ints('split');
  if (given && given.length > 0) {
    const sum = given.reduce((total, part) => total + part, 0);
    if (sum !== size || given.some((part) => part < 0))
      throw modelError(node, `parts that sum to ${size}`, 'split', given);
    return given;
  }
  const count = node.attributes.int('num_outputs') ?? node.outputs.length;
  if (count < 1) throw modelError(node, 'a positive integer', 'num_outputs', count);
  const part = Math.ceil(size / count);
  const last = size - part * (count - 1);
  if (last < 0 || (opset < 18 && last !== part))
    throw modelError(node, `an axis divisible by ${count}`, 'input 0', size);
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? last : part));
}

export const Split = defineOp({
  type: 'Split',
  since: [2, 11, 13, 18],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { node, opset } = context;
    const { dtype, shape } = context.input(0);
    if (!shape) return node.outputs.map(() => ({ dtype }));
    const axis = axisOf(node, node.attributes.int('axis', 0), shape.length);
    const size = shape[axis];
    const splitInput = context.constant(1);
    const computed = opset >= 13 && node.input(1) && !splitInput;
    const parts = typeof size === 'number' && !computed ? partsOf(node, opset, splitInput, size) : undefined;
    const given = opset >= 13 ? splitInput && integersOf(splitInput) : node.attributes.ints('split');
    return node.outputs.map((_, i) => ({
      dtype,
      shape: shape.map((dim, j) => (j === axis ? (parts?.[i] ?? given?.[i] ?? context.unknownDim()) : dim)),
    }));
  },
  run([x, splitInput], { node, opset }) {
    const axis = axisOf(node, node.attributes.int('axis', 0), x!.dims.length);
    const strides = stridesOf(x!.dims);
    let start = 0;
    return partsOf(node, opset, splitInput, x!.dims[axis]).map((size) => {
      const shape = x!.dims.map((dim, i) => (i === axis ? size : dim));
      const part = stridedCopy(x!, shape, strides, start * strides[axis]);
      start += size;
      return part;
    });
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    if (!isNative(context.dtype(value))) return false;
    const shape = context.shape(value);
    const axis = axisOf(node, node.attributes.int('axis', 0), shape.length);
    const layout = existingLayout(context, value);
    const x = context.slot(value, layout);
    const strides = logicalStrides(shape, layout);
    let start = 0;
    const splitInput = context.constant(node.input(1));
    if (context.opset >= 13 && node.input(1) && !splitInput) return false;
    for (const [i, size] of partsOf(node, context.opset, splitInput, shape[axis]).entries()) {
      const output = node.outputs[i];
      if (output) {
        context.emit({
          op: 'strided_copy',
          x: x.id,
          y: context.output(output, layout).id,
          shape: physicalOrder(
            shape.map((dim, j) => (j === axis ? size : dim)),
            layout,
          ),
          strides: physicalOrder(strides, layout),
          offset: start * strides[axis],
        });
      }
      start += size;
    }
    return true;
  },
});
