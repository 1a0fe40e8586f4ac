/**
 * MatMul of rank 2 followed by Add of a constant row becomes Gemm, which adds the bias while the sum is in a register.
 */
import { type Graph, type Node, Value } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** Rewrites MatMul(a [M, K], constant [K, N]) + constant [N] as Gemm(a, b, c). */
export function fuseMatmulBias(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const node of [...graph.nodes]) {
    if (!isOp(node, 'MatMul') || node.input(0)?.type?.shape?.length !== 2) continue;
    const weight = floatConstant(node.input(1));
    const add = onlyConsumer(graph, node.output, captured);
    if (weight?.dims.length !== 2 || !isOp(add, 'Add') || captured.has(add.output)) continue;
    const biasValue = add.requiredInput(add.input(0) === node.output ? 1 : 0);
    const bias = floatConstant(biasValue);
    if (!bias || !isRow(bias, weight.dims[1])) continue;
    replaceByGemm(graph, node, add, biasValue, bias);
    changed = true;
  }
  return changed;
}

function isRow(tensor: Tensor, columns: number): boolean {
  const { dims } = tensor;
  return dims[dims.length - 1] === columns && tensor.size === columns && dims.length <= 2;
}

function replaceByGemm(graph: Graph, matmul: Node, add: Node, biasValue: Value, bias: Tensor): void {
  const c = bias.dims.length === 1 ? biasValue : graph.newConstant(biasValue.name, bias.reshape([bias.size]));
  const inputs = [matmul.requiredInput(0), matmul.requiredInput(1), c];
  const result = new Value(graph.uniqueName(matmul.output.name), add.output.type);
  graph.removeNode(matmul);
  graph.addNode({ name: graph.uniqueName(`${matmul.name}_gemm`), op: 'Gemm', inputs, outputs: [result] });
  graph.replaceAllUses(add.output, result);
  graph.removeNode(add);
}
