/**
 * Names are what reports, errors and the quantizer's options refer to: every node gets one, and no two nodes of a model the
 * same; nor do two tensors, be they in different bodies of control flow.
 */
import { graphsOf } from '../graph/bodies';
import type { Graph, Value } from '../graph/graph';

/**
 * Gives nameless nodes a name from their operator and renames all but the first of those that share one. Tensors of bodies
 * that are named like another one get a number; those of the model itself keep their names.
 */
export function nameNodes(graph: Graph): void {
  const taken = new Set<string>();
  const tensors = new Map<string, Value>();
  const graphs = [...graphsOf(graph)];
  for (const each of graphs) {
    const nameTensor = (value: Value | null): void => {
      if (!value || graphs.length === 1 || tensors.get(value.name) === value) return;
      while (tensors.has(value.name)) value.name = each.uniqueName(value.name);
      tensors.set(value.name, value);
    };
    each.inputs.forEach(nameTensor);
    for (const node of each.nodes) {
      if (node.name === '') node.name = each.uniqueName(node.op);
      while (taken.has(node.name)) node.name = each.uniqueName(node.name);
      taken.add(node.name);
      for (const value of node.inputs) if (value?.constant) nameTensor(value);
      node.outputs.forEach(nameTensor);
    }
    each.outputs.forEach(nameTensor);
  }
}
