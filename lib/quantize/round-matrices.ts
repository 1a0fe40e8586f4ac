/**
 * Weights of MatMul and Gemm in blocks, rounded by GPTQ: the scales of rounding to nearest, and codes such that products with
 * the inputs seen change least. Inputs are those of the float model. Matrices are done in groups whose second moments fit in
 * memory together; samples run once for each group.
 */
import type { Graph, Node, Value } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { showActivations } from './algorithms/statistics';
import { type BlockedMatrix, DEFAULT_BLOCK_SIZE, quantizeBlocks } from './blocks';
import { noSamples, takeSamples } from './calibrate';
import { compensationOf, roundRow, SecondMoments } from './gptq';
import { matrixOf, type MatrixView, transposed } from './matrix-view';
import type { ResolvedWeightOnlyOptions } from './options';
import { Turns } from './turns';

const SAMPLES = 128;
/** Second moments in memory at a time (256 MiB); a single larger one is taken all the same. */
const MAX_ELEMENTS = 2 ** 25;

/** Matrices whose nodes read the same activations, and so share second moments. */
interface Group {
  activations: readonly Value[];
  size: number;
  matrices: { weight: Tensor<'float32'>; view: MatrixView; nodes: Node[] }[];
}

/** By node. Nodes that are refused, or whose weight is no constant matrix, are left out. The graph is not changed. */
export async function roundMatrices(
  graph: Graph,
  options: ResolvedWeightOnlyOptions,
  refusal: (node: Node) => string | undefined,
): Promise<Map<Node, BlockedMatrix>> {
  const { threads, signal, onProgress } = options;
  const samples = await takeSamples(options.calibration!, graph, SAMPLES);
  if (samples.length === 0) throw noSamples();
  const batches = batchesOf(groupsOf(graph, options, refusal));
  const result = new Map<Node, BlockedMatrix>();
  const turns = new Turns(signal);
  onProgress?.({ phase: 'calibrate', done: 0, total: batches.length });
  for (const [done, batch] of batches.entries()) {
    const seen = batch.map((group) => ({ ...group, moments: new SecondMoments(group.size) }));
    const requests = seen.flatMap(({ activations, moments }) =>
      activations.map((value) => ({ value, observer: { observe: (data: Float32Array) => moments.add(data) } })),
    );
    await showActivations(graph, requests, samples, { threads, signal });
    for (const { matrices, moments } of seen) {
      const compensation = await compensationOf(moments, turns);
      for (const { weight, view, nodes } of matrices) {
        const { bits, blockSize = DEFAULT_BLOCK_SIZE, symmetric } = options;
        const { rows: size, columns: outputs } = view;
        const data = transposed(weight, view);
        const matrix = quantizeBlocks(data, outputs, size, blockSize, { bits, symmetric, algorithm: 'rtn' });
        const { codes, scales, blocks } = matrix;
        const zeros = matrix.zeroPoints as Uint8Array | null;
        for (let output = 0; output < outputs; output++) {
          await turns.pass();
          const first = output * blocks;
          const grid = {
            scale: (column: number) => scales[first + Math.floor(column / blockSize)],
            zeroPoint: (column: number) => zeros?.[first + Math.floor(column / blockSize)] ?? 2 ** (bits - 1),
            low: 0,
            high: 2 ** bits - 1,
          };
          const from = output * size;
          roundRow(data.subarray(from, from + size), compensation, grid, codes.subarray(from, from + size));
        }
        for (const node of nodes) result.set(node, matrix);
      }
    }
    onProgress?.({ phase: 'calibrate', done: done + 1, total: batches.length });
  }
  return result;
}

function groupsOf(
  graph: Graph,
  { format }: ResolvedWeightOnlyOptions,
  refusal: (node: Node) => string | undefined,
): Group[] {
  // Tied weights are one matrix, to suit all that their nodes read.
  const matrices = new Map<string, Group['matrices'][number]>();
  for (const node of graph.topologicalOrder()) {
    if (node.domain !== '' || (node.op !== 'MatMul' && node.op !== 'Gemm')) continue;
    const value = node.requiredInput(1);
    if (value.constant?.type !== 'float32' || node.requiredInput(0).constant || refusal(node)) continue;
    const weight = value.constant as Tensor<'float32'>;
    const found = matrixOf(node, weight);
    if (typeof found === 'string') continue;
    // In format 'qdq' factors stay in the node.
    const view = format === 'qdq' ? { ...found, factor: 1 } : found;
    const key = `${value.name} ${view.isTransposed} ${view.factor}`;
    const matrix = matrices.get(key) ?? { weight, view, nodes: [] };
    matrix.nodes.push(node);
    matrices.set(key, matrix);
  }
  const groups = new Map<string, Group>();
  for (const matrix of matrices.values()) {
    const activations = [...new Set(matrix.nodes.map((node) => node.requiredInput(0)))];
    const key = activations.map(({ name }) => JSON.stringify(name)).join();
    const group = groups.get(key) ?? { activations, size: matrix.view.rows, matrices: [] };
    group.matrices.push(matrix);
    groups.set(key, group);
  }
  return [...groups.values()];
}

function batchesOf(groups: readonly Group[]): Group[][] {
  const batches: Group[][] = [];
  let elements = Number.POSITIVE_INFINITY;
  for (const group of groups) {
    const size = group.size * group.size;
    if (elements + size > MAX_ELEMENTS) {
      batches.push([]);
      elements = 0;
    }
    batches[batches.length - 1].push(group);
    elements += size;
  }
  return batches;
}
