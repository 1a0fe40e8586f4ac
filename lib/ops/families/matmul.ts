/**
 * Matrix products with numpy.matmul semantics: shapes with batch broadcasting and 1-D promotion, the exact product in
 * TypeScript (double sums: exact for 8-bit operands), and the batch offsets of the native steps.
 */
import type { Dim, Node } from '../../graph/graph';
import { broadcastShapes, broadcastStrides, sizeOf, stridesOf } from '../../tensor/shape';
import type { InferContext } from '../define-op';
import { broadcastDims, conflicts, modelError, type Shape } from './inference';

/** A product of concrete shapes: per batch item A [m, k] x B [k, n]. */
export interface MatMulPlan {
  m: number;
  n: number;
  k: number;
  /** Shape of the result. */
  dims: number[];
  /** Element offsets of A, B and Y for each batch item: [a0, b0, y0, a1, ...]. */
  batchOffsets: Int32Array;
}

/** Shape of the product of two inputs. */
export function inferMatMul(context: InferContext, aIndex: number, bIndex: number): Shape {
  const a = context.input(aIndex).shape;
  const b = context.input(bIndex).shape;
  if (!a || !b) return undefined;
  checkRanks(context.node, a, b);
  const [left, right] = promote<Dim>(a, b);
  if (conflicts(left[left.length - 1], right[right.length - 2])) throw innerMismatch(context.node, a, b);
  const batch = broadcastDims(context, [left.slice(0, -2), right.slice(0, -2)]) ?? [];
  return productShape(batch, left, right, a.length, b.length);
}

/** Plans a product of concrete shapes. @throws ERR_Q8_BAD_MODEL when they do not fit. */
export function planMatMul(node: Node, a: readonly number[], b: readonly number[]): MatMulPlan {
  checkRanks(node, a, b);
  const [left, right] = promote<number>(a, b);
  const [m, k] = left.slice(-2);
  const n = right[right.length - 1];
  if (right[right.length - 2] !== k) throw innerMismatch(node, a, b);
  const batch = broadcastShapes([left.slice(0, -2), right.slice(0, -2)], `node "${node.name}" (${node.op})`);
  const items = sizeOf(batch);
  const aStrides = broadcastStrides(left.slice(0, -2), batch);
  const bStrides = broadcastStrides(right.slice(0, -2), batch);
  const steps = stridesOf(batch);
  const batchOffsets = new Int32Array(3 * items);
  for (let item = 0; item < items; item++) {
    let aBatch = 0;
    let bBatch = 0;
    for (let axis = 0; axis < batch.length; axis++) {
      const index = Math.floor(item / steps[axis]) % batch[axis];
      aBatch += index * aStrides[axis];
      bBatch += index * bStrides[axis];
    }
    batchOffsets.set([aBatch * m * k, bBatch * k * n, item * m * n], 3 * item);
  }
  return { m, n, k, dims: productShape(batch, left, right, a.length, b.length) as number[], batchOffsets };
}

/** Runs a plan in double. */
export function multiply(plan: MatMulPlan, a: Float64Array, b: Float64Array): Float64Array {
  const { m, n, k, batchOffsets } = plan;
  const out = new Float64Array((batchOffsets.length / 3) * m * n);
  for (let item = 0; item < batchOffsets.length; item += 3) {
    const [aAt, bAt, yAt] = batchOffsets.subarray(item, item + 3);
    for (let i = 0; i < m; i++) {
      const row = yAt + i * n;
      for (let p = 0; p < k; p++) {
        const factor = a[aAt + i * k + p];
        const column = bAt + p * n;
        for (let j = 0; j < n; j++) out[row + j] += factor * b[column + j];
      }
    }
  }
  return out;
}

function promote<T extends Dim>(a: readonly T[], b: readonly T[]): [(T | 1)[], (T | 1)[]] {
  return [a.length === 1 ? [1, ...a] : [...a], b.length === 1 ? [...b, 1] : [...b]];
}

function productShape<T extends Dim>(
  batch: readonly T[],
  left: readonly T[],
  right: readonly T[],
  aRank: number,
  bRank: number,
): T[] {
  const dims = [...batch];
  if (aRank > 1) dims.push(left[left.length - 2]);
  if (bRank > 1) dims.push(right[right.length - 1]);
  return dims;
}

function checkRanks(node: Node, a: readonly Dim[], b: readonly Dim[]): void {
  if (a.length > 0 && b.length > 0) return;
  throw modelError(node, 'rank 1 or more', 'both operands', `shapes [${a.join(', ')}] and [${b.join(', ')}]`);
}

function innerMismatch(node: Node, a: readonly Dim[], b: readonly Dim[]): Error {
  return modelError(node, 'equal inner dimensions', 'the operands', `shapes [${a.join(', ')}] and [${b.join(', ')}]`);
}
