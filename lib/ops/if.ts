/** If (ai.onnx 1, 11, 13, 16, 19, 21): one of two bodies, by a condition. */
import type { Graph, Node, ValueType } from '../graph/graph';
import { defineOp, type InferContext } from './define-op';
import { modelError } from './families/inference';
import { scalarOf } from './families/values';

function branch(node: Node, name: 'then_branch' | 'else_branch'): Graph {
  const graph = node.attributes.graph(name);
  if (!graph) throw modelError(node, 'a graph', name, 'nothing');
  return graph;
}

/** What both branches agree on. */
function common(context: InferContext, a: ValueType, b: ValueType): ValueType {
  if (a.dtype !== b.dtype)
    throw modelError(context.node, `type ${a.dtype}, as in then_branch,`, 'else_branch', b.dtype);
  if (!a.shape || !b.shape || a.shape.length !== b.shape.length) return { dtype: a.dtype };
  const other = b.shape;
  return { dtype: a.dtype, shape: a.shape.map((dim, i) => (dim === other[i] ? dim : context.unknownDim())) };
}

export const If = defineOp({
  type: 'If',
  since: [1, 11, 13, 16, 19, 21],
  inferShape(context) {
    const { node } = context;
    const condition = context.constant(0);
    if (condition)
      return context.inferSubgraph(branch(node, scalarOf(condition) !== 0 ? 'then_branch' : 'else_branch'), []);
    const then = context.inferSubgraph(branch(node, 'then_branch'), []);
    const otherwise = context.inferSubgraph(branch(node, 'else_branch'), []);
    return node.outputs.map((_, i) => common(context, then[i], otherwise[i]));
  },
  run([condition], { node, runSubgraph }) {
    if (condition!.size !== 1) throw modelError(node, 'one element', 'the condition', condition!.size);
    return runSubgraph(branch(node, scalarOf(condition!) !== 0 ? 'then_branch' : 'else_branch'), []);
  },
});
