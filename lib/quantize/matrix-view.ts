/** Constant weights of MatMul and Gemm as the matrices that they stand for. */
import type { Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';

/** A weight as the matrix K x N that it stands for. */
export interface MatrixView {
  rows: number;
  columns: number;
  /** Stored N x K. */
  isTransposed: boolean;
  /** alpha of Gemm. */
  factor: number;
}

/** The view, or why there is none. */
export function matrixOf(node: Node, { dims }: Tensor): MatrixView | string {
  if (dims.length < 2) return 'its weight is a vector';
  if (dims.slice(0, -2).some((dim) => dim !== 1)) return 'its weight is a stack of matrices';
  const rank = node.requiredInput(0).type?.shape?.length;
  if (dims.length > 2 && (rank === undefined || rank < dims.length))
    return 'its weight has more dimensions than its input';
  if (node.op === 'Gemm' && node.attributes.int('transA', 0) !== 0) return 'its input is transposed';
  const [first, second] = dims.slice(-2);
  const isTransposed = node.op === 'Gemm' && node.attributes.int('transB', 0) !== 0;
  const factor = node.op === 'Gemm' ? node.attributes.float('alpha', 1) : 1;
  return isTransposed
    ? { rows: second, columns: first, isTransposed, factor }
    : { rows: first, columns: second, isTransposed, factor };
}

/** factor * weight as N x K. */
export function transposed(
  { data }: Tensor<'float32'>,
  { rows, columns, isTransposed, factor }: MatrixView,
): Float32Array {
  if (isTransposed) return factor === 1 ? data : data.map((v) => v * factor);
  const out = new Float32Array(data.length);
  for (let k = 0; k < rows; k++) for (let n = 0; n < columns; n++) out[n * rows + k] = data[k * columns + n] * factor;
  return out;
}
