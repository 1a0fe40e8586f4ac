/** Whether q8 can run a model, decided for the whole graph at once: a user wants all the bad news in one message. */
import { didYouMean, Q8Error } from '../errors';
import { type Graph, type Node, subgraphsOf } from '../graph/graph';
import { lookupOp, opNames } from '../ops/registry';

/** @throws ERR_Q8_UNSUPPORTED_OP that lists every operator q8 does not know, with counts and the first node of each. */
export function checkSupport(graph: Graph): void {
  const missing = new Map<string, Node[]>();
  collect(graph, missing);
  if (missing.size === 0) return;
  const lines = [...missing].map(([operator, nodes]) => {
    const count = nodes.length === 1 ? '1 node' : `${nodes.length} nodes, the first`;
    const close = didYouMean(nodes[0].op, opNames());
    const meant = close && close !== nodes[0].op ? `, did the exporter mean ${close}?` : '';
    return `${operator} (${count} "${nodes[0].name}")${meant}`;
  });
  const first = [...missing.values()][0][0];
  throw new Q8Error(
    'ERR_Q8_UNSUPPORTED_OP',
    `The model uses operators that q8 does not support: ${lines.join('; ')}.`,
    {
      node: first.name,
      hint: 'export the model with standard ONNX operators.',
    },
  );
}

function collect(graph: Graph, missing: Map<string, Node[]>): void {
  for (const node of graph.nodes) {
    for (const body of subgraphsOf(node)) collect(body, missing);
    if (lookupOp(node)) continue;
    const operator = node.domain === '' ? node.op : `${node.domain}.${node.op}`;
    const nodes = missing.get(operator);
    if (nodes) nodes.push(node);
    else missing.set(operator, [node]);
  }
}
