/**
 * Weights of 2, 4 or 8 bits with a scale for every block along the last axis (MatMulNBits, GatherBlockQuantized): packed into
 * bytes, first element in the lowest bits. The zero point of a block without one is the middle of the codes.
 */
import type { Node } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import { modelError } from './inference';
import { toDoubles } from './values';

export interface BlockCodes {
  bits: number;
  blockSize: number;
  /** Rows, elements of a row, blocks of a row. */
  rows: number;
  columns: number;
  blocks: number;
}

/** Bits and block size of a node, checked. */
export function blockAttributes(node: Node, fallback: number): { bits: number; blockSize: number } {
  const bits = node.attributes.int('bits', 4);
  const blockSize = node.attributes.int('block_size', fallback);
  if (bits !== 2 && bits !== 4 && bits !== 8) throw modelError(node, '2, 4 or 8', 'bits', bits);
  if (blockSize < 16 || (blockSize & (blockSize - 1)) !== 0) {
    throw modelError(node, 'a power of two from 16 up', 'block_size', blockSize);
  }
  return { bits, blockSize };
}

/** Code `index` of those packed from byte `start` on. */
export function codeAt(packed: ArrayLike<number>, start: number, index: number, bits: number): number {
  const bit = index * bits;
  return (packed[start + (bit >> 3)] >> (bit & 7)) & (2 ** bits - 1);
}

/** Writes a code where {@link codeAt} reads it; the bits there must be 0. */
export function putCode(packed: Uint8Array, start: number, index: number, bits: number, code: number): void {
  const bit = index * bits;
  packed[start + (bit >> 3)] |= code << (bit & 7);
}

/** Bytes of `count` packed codes. */
export function packedBytes(count: number, bits: number): number {
  return Math.ceil((count * bits) / 8);
}

/**
 * Real values [rows, columns], row-major. A row of `codes` is `rowBytes` bytes. `zeroPoints` are packed by rows like codes
 * when they are uint8 (of `blocks` codes each), else real numbers. `group` gives the block of a column; default: column /
 * blockSize.
 */
export function dequantizeBlocks(
  node: Node,
  codes: Tensor,
  scales: Tensor,
  zeroPoints: Tensor | null | undefined,
  shape: BlockCodes,
  group?: ArrayLike<number>,
): Float32Array {
  const { bits, blockSize, rows, columns, blocks } = shape;
  const rowBytes = rows === 0 ? 0 : codes.size / rows;
  if (rowBytes * 8 < columns * bits || rowBytes !== Math.floor(rowBytes)) {
    throw modelError(node, `${rows} rows of ${columns} codes of ${bits} bits`, 'the weight', `${codes.size} bytes`);
  }
  if (scales.size !== rows * blocks) throw modelError(node, `${rows} x ${blocks} elements`, 'the scales', scales.size);
  const zeroBytes = packedBytes(blocks, bits);
  const isPacked = zeroPoints?.type === 'uint8';
  if (zeroPoints && zeroPoints.size !== rows * (isPacked ? zeroBytes : blocks)) {
    throw modelError(node, `${rows} x ${isPacked ? zeroBytes : blocks} elements`, 'the zero points', zeroPoints.size);
  }
  const bytes = codes.data as Uint8Array;
  const factors = toDoubles(scales);
  const zeros = zeroPoints ? toDoubles(zeroPoints) : undefined;
  const out = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const block = group ? group[c] : Math.floor(c / blockSize);
      const zero = !zeros
        ? 2 ** (bits - 1)
        : isPacked
          ? codeAt(zeros, r * zeroBytes, block, bits)
          : zeros[r * blocks + block];
      out[r * columns + c] = Math.fround(codeAt(bytes, r * rowBytes, c, bits) - zero) * factors[r * blocks + block];
    }
  }
  return out;
}
