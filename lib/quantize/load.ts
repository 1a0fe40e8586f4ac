/** From the file of a model to the prepared graph, with what the user has selected of it. */
import { expected } from '../errors';
import { graphFromProto } from '../graph/from-proto';
import { nodesOf } from '../graph/bodies';
import type { Graph } from '../graph/graph';
import { type LoadedModel, readModel } from '../onnx/read';
import { prepare } from '../passes';
import { nameNodes } from '../passes/name-nodes';
import type { ResolvedOptions } from './options';
import { Selection } from './select';

export interface LoadedGraph {
  loaded: LoadedModel;
  /** Prepared. */
  graph: Graph;
  /** Absent in mode 'qat'. */
  selection: Selection | undefined;
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
  nameNodes(graph);
  const asRead = [...nodesOf(graph)];
  const selection = options.mode === 'qat' ? undefined : new Selection(options, graph);
  prepare(graph);
  selection?.apply(graph, asRead);
  onProgress?.({ phase: 'prepare', done: 1, total: 1 });
  signal?.throwIfAborted();
  return { loaded, graph, selection };
}
