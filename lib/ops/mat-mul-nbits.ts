/**
 * MatMulNBits (com.microsoft 1): A [..., K] times a constant of 2, 4 or 8 bits with a scale for each block of K. Inputs: A, B
 * uint8 [N, blocks, block_size * bits / 8], scales [N * blocks], zero points?, g_idx [K]?, bias [N]?. Computed in float32
 * whatever `accuracy_level` allows: onnxruntime quantizes A to int8 at level 4.
 */
import type { Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { project } from './families/attention';
import { type BlockCodes, blockAttributes, dequantizeBlocks } from './families/block-codes';
import { checkType, modelError } from './families/inference';
import { fromDoubles, integersOf, toDoubles } from './families/values';

function shapeOf(node: Node): BlockCodes {
  const [rows, columns] = ['N', 'K'].map((name) => {
    const size = node.attributes.int(name, 0);
    if (size < 1) throw modelError(node, 'a positive integer', name, size);
    return size;
  });
  const { bits, blockSize } = blockAttributes(node, 0);
  return { rows, columns, bits, blockSize, blocks: Math.ceil(columns / blockSize) };
}

/** The weight as real values, N x K. */
function weightOf(node: Node, inputs: readonly (Tensor | null | undefined)[]): Float32Array {
  const [, codes, scales, zeroPoints, groups] = inputs;
  const shape = shapeOf(node);
  const group = groups && integersOf(groups);
  if (group && (group.length < shape.columns || group.some((g) => g < 0 || g >= shape.blocks))) {
    throw modelError(node, `${shape.columns} indices in [0, ${shape.blocks - 1}]`, 'g_idx', group.length);
  }
  return dequantizeBlocks(node, codes!, scales!, zeroPoints, shape, group ?? undefined);
}

const identities = new WeakMap<Tensor, number>();
let identityCount = 0;

/** A number that no other tensor has: packed weights depend on scales and zero points too. */
function identityOf(tensor: Tensor | undefined): number {
  if (!tensor) return 0;
  let identity = identities.get(tensor);
  if (identity === undefined) {
    identity = ++identityCount;
    identities.set(tensor, identity);
  }
  return identity;
}

export const MatMulNBits = defineOp({
  type: 'MatMulNBits',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'float32', 'float16', 'bfloat16');
    const { rows, columns } = shapeOf(context.node);
    const { dtype, shape } = context.input(0);
    const last = shape?.at(-1);
    if (typeof last === 'number' && last !== columns)
      throw modelError(context.node, `${columns}`, 'the last size of A', last);
    return [{ dtype, shape: shape && [...shape.slice(0, -1), rows] }];
  },
  run(inputs, { node }) {
    const a = inputs[0]!;
    const { rows, columns } = shapeOf(node);
    const weight = weightOf(node, inputs);
    const transposed = new Float64Array(weight.length);
    for (let n = 0; n < rows; n++) for (let k = 0; k < columns; k++) transposed[k * rows + n] = weight[n * columns + k];
    const bias = inputs[5] ? toDoubles(inputs[5]) : undefined;
    return [fromDoubles(a.type, project(toDoubles(a), transposed, rows, bias), [...a.dims.slice(0, -1), rows])];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const constants = node.inputs.map((input) => context.constant(input));
    const isKnown = node.inputs.slice(1).every((input, i) => !input || constants[i + 1]);
    const codes = constants[1];
    if (!codes || !isKnown || context.dtype(value) !== 'float32' || constants[2]?.type !== 'float32') return false;
    const { rows, columns, bits, blockSize } = shapeOf(node);
    const parameters = constants.slice(2, 5).map(identityOf).join('/');
    const weights = context.shared(codes, `n-bits/${bits}/${blockSize}/${rows}/${parameters}`, () =>
      context.pack.packGemmF32(weightOf(node, constants), columns, rows, true),
    );
    const x = context.slot(value, 'row').id;
    const m = sizeOf(context.shape(value).slice(0, -1));
    const bias = (constants[5]?.data as Float32Array | undefined) ?? null;
    const [min, max] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
    context.emit({ op: 'gemm', x, y: context.output(node.output, 'row').id, m, weights, bias, min, max });
    return true;
  },
});
