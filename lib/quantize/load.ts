/** From the file of a model to the prepared graph, with what the user has selected of it. */
import { expected } from '../errors';
import { graphFromProto } from '../graph/from-proto';
import { type Graph, type Node, subgraphsOf } from '../graph/graph';
import { type LoadedModel, readModel } from '../onnx/read';
import { lookupOp } from '../ops/registry';
import { prepare } from '../passes';
import type { FloatNodeReport } from '../report/quantize-report';
import type { ResolvedOptions } from './options';
import { Selection } from './select';

export interface LoadedGraph {
  loaded: LoadedModel;
  /** Prepared. */
  graph: Graph;
  /** Absent in mode 'qat'. */
  selection: Selection | undefined;
  /** Nodes with weights that no mode reaches. */
  floatInSubgraphs: FloatNodeReport[];
}

/** @throws as readModel() and the selectors do. */
export async function loadGraph(model: string | Uint8Array, options: ResolvedOptions): Promise<LoadedGraph> {
  if (typeof model !== 'string' && !(model instanceof Uint8Array))
    throw expected('a path or a Uint8Array', 'the model', model);
  const { signal, onProgress, baseDirectory } = options;
  signal?.throwIfAborted();
  onProgress?.({ phase: 'prepare', done: 0, total: 1 });
  const loaded = await readModel(model, { isLazy: true, ...(baseDirectory !== undefined && { baseDirectory }) });
  const graph = graphFromProto(loaded.model);
  const asRead = [...graph.nodes];
  const selection = options.mode === 'qat' ? undefined : new Selection(options, graph);
  prepare(graph);
  selection?.apply(graph, asRead);
  onProgress?.({ phase: 'prepare', done: 1, total: 1 });
  signal?.throwIfAborted();
  return { loaded, graph, selection, floatInSubgraphs: nodesInSubgraphs(graph) };
}

function nodesInSubgraphs(graph: Graph): FloatNodeReport[] {
  const found: FloatNodeReport[] = [];
  for (const node of graph.nodes) {
    for (const inner of nodesInside(node)) {
      if (lookupOp(inner)?.quant?.kind === 'compute') {
        found.push({ name: inner.name, op: inner.op, reason: `it is in a subgraph of ${node.op}` });
      }
    }
  }
  return found;
}

function* nodesInside(node: Node): Generator<Node> {
  for (const body of subgraphsOf(node)) {
    for (const inner of body.nodes) {
      yield inner;
      yield* nodesInside(inner);
    }
  }
}
