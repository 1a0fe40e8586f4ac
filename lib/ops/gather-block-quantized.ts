/**
 * GatherBlockQuantized (com.microsoft 1): rows of a table of 2, 4 or 8 bits, picked and dequantized. Inputs: codes uint8
 * [V, ceil(H * bits / 8)] (packed, first element in the lowest bits), indices, scales [V, blocks], zero points? [V, packed
 * blocks]. uint8 codes are gathered along axis 0 and have their blocks along the last axis, as the operator demands.
 */
import type { Dim, Node } from '../graph/graph';
import { sizeOf } from '../tensor/shape';

import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { type BlockCodes, blockAttributes, dequantizeBlocks } from './families/block-codes';
import { axisOf, checkType, modelError } from './families/inference';
import { indicesInto } from './families/indices';
import { pickAlong } from './families/strided';
import { fromDoubles } from './families/values';

function shapeOf(node: Node, dims: readonly number[], scales: readonly number[]): BlockCodes {
  const { bits, blockSize } = blockAttributes(node, 128);
  checkAxes(node, dims.length);
  const columns = (dims[dims.length - 1] * 8) / bits;
  return { bits, blockSize, rows: sizeOf(dims.slice(0, -1)), columns, blocks: scales[scales.length - 1] };
}

function checkAxes(node: Node, rank: number): void {
  const [gather, quantize] = [
    axisOf(node, node.attributes.int('gather_axis', 0), rank),
    axisOf(node, node.attributes.int('quantize_axis', 1), rank),
  ];
  if (gather !== 0 || quantize !== rank - 1 || rank < 2) {
    throw modelError(node, 'gather_axis 0 and quantize_axis last', 'the axes', [gather, quantize]);
  }
}

export const GatherBlockQuantized = defineOp({
  type: 'GatherBlockQuantized',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    const { node } = context;
    checkType(context, 0, 'uint8');
    const { bits } = blockAttributes(node, 128);
    const { dtype } = context.input(2);
    const [data, indices] = [context.input(0).shape, context.input(1).shape];
    if (!data || !indices) return [{ dtype }];
    checkAxes(node, data.length);
    const last = data[data.length - 1];
    const width: Dim = typeof last === 'number' ? (last * 8) / bits : context.unknownDim();
    return [{ dtype, shape: [...indices, ...data.slice(1, -1), width] }];
  },
  run([data, indices, scales, zeroPoints], { node }) {
    const picked = indicesInto(node, indices!, data!.dims[0]);
    const rowsOf = (tensor: Tensor): Tensor => pickAlong(tensor, 0, picked);
    const codes = rowsOf(data!);
    const shape = shapeOf(node, codes.dims, scales!.dims);
    const zeros = zeroPoints && rowsOf(zeroPoints);
    const values = dequantizeBlocks(node, codes, rowsOf(scales!), zeros, shape);
    const dims = [...indices!.dims, ...data!.dims.slice(1, -1), shape.columns];
    if (scales!.type === 'float32') return [new Tensor('float32', values, dims)];
    return [fromDoubles(scales!.type, Float64Array.from(values), dims)];
  },
});
