/** Reshape (ai.onnx 5, 13, 14, 19, 21): a new shape for the same elements; 0 keeps a dimension, -1 is computed. */
import type { Dim, Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import type { InferContext } from './define-op';
import { defineOp } from './define-op';
import { modelError, productOf, unknownShape } from './families/inference';
import { lowerView } from './families/views';
import { integersOf } from './families/values';

/** The wanted shape with 0 replaced by the input's dimensions; checks what can be checked without sizes. */
function wantedShape(node: Node, wanted: readonly Dim[], shape: readonly Dim[] | undefined): Dim[] {
  const allowZero = node.attributes.int('allowzero', 0) !== 0;
  if (wanted.filter((dim) => dim === -1).length > 1 || wanted.some((dim) => typeof dim === 'number' && dim < -1)) {
    throw modelError(node, 'at most one -1 and no other negative size', 'shape', wanted);
  }
  return wanted.map((dim, i) => {
    if (dim !== 0 || allowZero) return dim;
    const kept = shape?.[i];
    if (shape && kept === undefined)
      throw modelError(node, `0 only for the input's ${shape.length} dimensions`, 'shape', wanted);
    return kept ?? '?';
  });
}

/** The dimension that -1 stands for: the quotient of the products, symbols cancelled by name. */
function missingDim(context: InferContext, shape: readonly Dim[], others: readonly Dim[]): Dim {
  const left: Dim[] = [...shape];
  for (const dim of others) {
    const at = typeof dim === 'string' ? left.indexOf(dim) : -1;
    if (typeof dim === 'string' && at < 0) return context.unknownDim();
    if (at >= 0) left.splice(at, 1);
  }
  const numeric = (dims: readonly Dim[]): number => sizeOf(dims.filter((dim) => typeof dim === 'number'));
  const [size, divisor] = [numeric(left), numeric(others)];
  const symbols = left.filter((dim) => typeof dim === 'string');
  if (divisor === 0) return symbols.length === 0 ? 0 : context.unknownDim();
  if (symbols.length === 0 && size % divisor !== 0) {
    throw modelError(context.node, `a shape of ${size} elements`, 'shape', `[${others.join(', ')}, -1]`);
  }
  return size % divisor === 0 ? productOf(context, [size / divisor, ...symbols]) : context.unknownDim();
}

export const Reshape = defineOp({
  type: 'Reshape',
  since: [5, 13, 14, 19, 21],
  quant: { kind: 'agnostic' },
  inferShape(context) {
    const { node } = context;
    const { dtype, shape } = context.input(0);
    const constant = context.constant(1);
    const target = constant ? integersOf(constant) : context.dims(1);
    if (!target) {
      const rank = context.input(1).shape?.[0];
      return [{ dtype, shape: typeof rank === 'number' ? unknownShape(context, rank) : undefined }];
    }
    const wanted = wantedShape(node, target, shape);
    if (!shape)
      return [{ dtype, shape: wanted.map((dim) => (dim !== -1 && dim !== '?' ? dim : context.unknownDim())) }];
    const others = wanted.filter((dim) => dim !== -1);
    if (others.length === wanted.length && [...shape, ...wanted].every((dim) => typeof dim === 'number')) {
      if (sizeOf(shape as number[]) !== sizeOf(wanted as number[])) {
        throw modelError(node, `a shape of ${sizeOf(shape as number[])} elements`, 'shape', wanted);
      }
    }
    return [{ dtype, shape: wanted.map((dim) => (dim === -1 ? missingDim(context, shape, others) : dim)) }];
  },
  run([x, target], { node }) {
    const wanted = wantedShape(node, integersOf(target!), x!.dims) as number[];
    const known = sizeOf(wanted.filter((dim) => dim !== -1));
    const dims = wanted.map((dim) => (dim === -1 ? (known === 0 ? 0 : x!.size / known) : dim));
    if (!dims.every(Number.isInteger) || sizeOf(dims) !== x!.size) {
      throw modelError(node, `a shape of ${x!.size} elements`, 'shape', wanted);
    }
    return [x!.reshape(dims)];
  },
  lower: lowerView,
});
