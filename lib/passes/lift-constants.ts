/** Constant nodes become initializers: the rest of q8 looks for constants in one place only. */
import { type Graph, type Node, subgraphsOf } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { isOp } from './matching';

/** Replaces every Constant node, bodies included, by its tensor. */
export function liftConstants(graph: Graph): void {
  for (const node of [...graph.nodes]) {
    for (const body of subgraphsOf(node)) liftConstants(body);
    if (!isOp(node, 'Constant')) continue;
    const tensor = constantTensor(node);
    const value = node.outputs[0];
    if (!tensor || !value) continue;
    graph.removeNode(node);
    value.constant = tensor;
    value.type = { dtype: tensor.type, shape: tensor.dims };
  }
}

/** The tensor that a Constant node stands for, in any of its spellings; undefined for sparse tensors. */
function constantTensor(node: Node): Tensor | undefined {
  for (const [key, attribute] of node.attributes.entries()) {
    switch (key) {
      case 'value':
        if (attribute.kind === 'tensor') return attribute.value;
        break;
      case 'value_float':
        return new Tensor('float32', [node.attributes.float(key, 0)], []);
      case 'value_floats':
        return new Tensor('float32', node.attributes.floats(key) ?? []);
      case 'value_int':
        return new Tensor('int64', [node.attributes.int(key, 0)], []);
      case 'value_ints':
        return new Tensor('int64', node.attributes.ints(key) ?? []);
      case 'value_string':
        return new Tensor('string', [node.attributes.string(key, '')], []);
      case 'value_strings':
        return new Tensor('string', node.attributes.strings(key) ?? []);
    }
  }
  return undefined;
}
