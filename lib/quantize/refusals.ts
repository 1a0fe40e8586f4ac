/** What becomes one operator before anything is quantized, and which nodes stay in float because the user says so. */
import type { Graph, Node } from '../graph/graph';
import { fuseGelus, fuseTransformers } from '../passes';
import type { ResolvedOptions } from './options';
import type { Selection } from './select';

/**
 * Why nodes are not to be quantized. Fuses the parts of transformers, if asked to, but for nodes that stay in float; and
 * Gelu alone where integer operators are written, which are of com.microsoft anyway: one table of 256 codes instead of
 * float between them.
 */
export function refusals(
  graph: Graph,
  options: ResolvedOptions,
  selection: Selection | undefined,
): (node: Node) => string | undefined {
  const keep = (node: Node): boolean => selection?.refusal(node) !== undefined;
  const fuse = fusionOf(options);
  if (!fuse) return (node) => selection?.refusal(node);
  const fused = new Set(fuse(graph, keep));
  return (node) => (fused.has(node) ? undefined : selection?.refusal(node));
}

function fusionOf(options: ResolvedOptions): typeof fuseTransformers | undefined {
  if (options.mode === 'qat') return undefined;
  if (options.fuseTransformers) return fuseTransformers;
  return options.mode === 'static' && options.format === 'qoperator' && !options.compat ? fuseGelus : undefined;
}
