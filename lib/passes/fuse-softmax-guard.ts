/**
 * Where(IsNaN(p), 0, p) behind a Softmax, which exporters of PyTorch write for rows that a mask hides altogether, becomes part of
 * the Softmax: two passes less over the largest tensors of a transformer, which would run in TypeScript.
 */
import type { Graph } from '../graph/graph';
import { capturedValues, guardOf, isOp } from './matching';

/** Sets `q8_guarded` on Softmax nodes and removes the guard behind them. Linear. */
export function fuseSoftmaxGuard(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const softmax of [...graph.nodes]) {
    const found = isOp(softmax, 'Softmax') ? guardOf(softmax) : undefined;
    if (!found) continue;
    const { test, guard } = found;
    const values = [softmax.output, test.output, guard.output];
    if (values.some((value) => captured.has(value)) || values.slice(0, 2).some((value) => graph.isOutput(value)))
      continue;
    if (test.output.consumerCount !== 1) continue;
    softmax.attributes.set('q8_guarded', { kind: 'int', value: 1 });
    graph.removeNode(test);
    graph.replaceAllUses(guard.output, softmax.output);
    graph.removeNode(guard);
    changed = true;
  }
  return changed;
}
