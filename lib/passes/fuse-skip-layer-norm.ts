/**
 * LayerNormalization of the sum of two tensors of one shape becomes com.microsoft SkipLayerNormalization, which gives the
 * sum as well, where somebody else reads it.
 */
import { type Graph, Value } from '../graph/graph';
import { capturedValues, floatConstant, isOp } from './matching';

/** Needs types. Linear. */
export function fuseSkipLayerNorm(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const norm of graph.topologicalOrder()) {
    const add = isOp(norm, 'LayerNormalization') ? norm.input(0)?.producer : undefined;
    if (!isOp(add, 'Add') || !graph.nodes.has(add) || captured.has(add.output) || captured.has(norm.output)) continue;
    const [a, b] = [add.requiredInput(0), add.requiredInput(1)];
    const shape = add.output.type?.shape;
    const scale = floatConstant(norm.input(1));
    const bias = norm.input(2);
    const axis = norm.attributes.int('axis', -1);
    const fits =
      shape?.length === 3 &&
      [a, b].every(
        ({ type, constant }) => !constant && type?.dtype === 'float32' && type.shape?.join() === shape.join(),
      ) &&
      (axis === -1 || axis === 2) &&
      scale?.dims.length === 1 &&
      (!bias || floatConstant(bias)?.dims.length === 1) &&
      norm.outputs.slice(1).every((value) => !value);
    if (!fits) continue;
    const result = new Value(graph.uniqueName(`${norm.output.name}_skip`), norm.output.type);
    const isSumRead = add.output.consumerCount > 1 || graph.isOutput(add.output);
    const sum = isSumRead ? new Value(graph.uniqueName(`${add.output.name}_sum`), add.output.type) : null;
    graph.addNode({
      name: graph.uniqueName(`${norm.name}_skip`),
      op: 'SkipLayerNormalization',
      domain: 'com.microsoft',
      inputs: [a, b, norm.requiredInput(1), bias],
      outputs: sum ? [result, null, null, sum] : [result],
      attributes: { epsilon: { kind: 'float', value: norm.attributes.float('epsilon', 1e-5) } },
    });
    graph.replaceAllUses(norm.output, result);
    graph.removeNode(norm);
    if (sum) graph.replaceAllUses(add.output, sum);
    graph.removeNode(add);
    changed = true;
  }
  return changed;
}
