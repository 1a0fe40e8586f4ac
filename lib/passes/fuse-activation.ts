/**
 * Relu and Clip after a float convolution or Gemm become the bounds of its output: one step and one pass over memory
 * less.
 */
import type { Graph, Node } from '../graph/graph';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** Sets `q8_min` / `q8_max` on Conv and Gemm nodes and removes the Relu or Clip behind them. */
export function fuseActivation(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const node of [...graph.nodes]) {
    if (!isOp(node, 'Conv', 'Gemm')) continue;
    if (node.output.type && node.output.type.dtype !== 'float32') continue;
    const next = onlyConsumer(graph, node.output, captured);
    const bounds = next && boundsOf(next, node);
    if (!next || !bounds || captured.has(next.output)) continue;
    const min = Math.max(bounds.min, node.attributes.float('q8_min', Number.NEGATIVE_INFINITY));
    const max = Math.min(bounds.max, node.attributes.float('q8_max', Number.POSITIVE_INFINITY));
    if (min > max) continue;
    if (min > Number.NEGATIVE_INFINITY) node.attributes.set('q8_min', { kind: 'float', value: min });
    if (max < Number.POSITIVE_INFINITY) node.attributes.set('q8_max', { kind: 'float', value: max });
    graph.replaceAllUses(next.output, node.output);
    graph.removeNode(next);
    changed = true;
  }
  return changed;
}

function boundsOf(next: Node, producer: Node): { min: number; max: number } | undefined {
  if (next.input(0) !== producer.output || next.inputs.lastIndexOf(producer.output) !== 0) return undefined;
  if (isOp(next, 'Relu')) return { min: 0, max: Number.POSITIVE_INFINITY };
  if (!isOp(next, 'Clip')) return undefined;
  const bound = (index: number, attribute: string, none: number): number | undefined => {
    const value = next.input(index);
    if (!value) return next.attributes.float(attribute, none);
    const tensor = floatConstant(value);
    return tensor?.size === 1 ? tensor.data[0] : undefined;
  };
  const min = bound(1, 'min', Number.NEGATIVE_INFINITY);
  const max = bound(2, 'max', Number.POSITIVE_INFINITY);
  return min === undefined || max === undefined || Number.isNaN(min) || Number.isNaN(max) ? undefined : { min, max };
}
