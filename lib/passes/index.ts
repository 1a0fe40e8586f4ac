/**
 * The two pipelines, for a graph and the bodies of its control flow. Passes change the graph that they are given; callers
 * that need the old one clone it first. The order matters: each pass may rely on what the ones before it have established.
 */
import { inEveryGraph } from '../graph/bodies';
import type { Graph, Node } from '../graph/graph';
import { inferShapes } from '../graph/infer';
import { lookupOp } from '../ops/registry';
import { cancelTransposes } from './cancel-transposes';
import { eliminateNoops } from './eliminate-noops';
import { foldBatchNorm } from './fold-batch-norm';
import { foldConstants } from './fold-constants';
import { fuseActivation } from './fuse-activation';
import { fuseAttention } from './fuse-attention';
import { fuseEmbedLayerNorm } from './fuse-embed-layer-norm';
import { fuseGelu } from './fuse-gelu';
import { fuseHardSwish } from './fuse-hard-swish';
import { fuseIntegerProducts } from './fuse-integer-products';
import { fuseLayerNorm } from './fuse-layer-norm';
import { fuseMatmulBias } from './fuse-matmul-bias';
import { fusePad } from './fuse-pad';
import { fuseQdq } from './fuse-qdq';
import { fuseSkipLayerNorm } from './fuse-skip-layer-norm';
import { fuseSoftmaxGuard } from './fuse-softmax-guard';
import { fuseTables } from './fuse-tables';
import { liftConstants } from './lift-constants';
import { nameNodes } from './name-nodes';
import { removeDeadNodes } from './remove-dead-nodes';
import { upgradeOpset } from './upgrade-opset';
import { widenFloat16 } from './widen-float16';

/**
 * Brings a model as it came from a file into the form that the quantizer and the runtime expect: constants are
 * initializers, float16 is float32, the opset is current, types are known as far as they can be, nothing constant is left
 * to compute, and normalizations are part of the weights. Names of inputs and outputs, and results up to float32 rounding,
 * stay.
 */
export function prepare(graph: Graph): void {
  const slices = prepareInSlices(graph);
  while (!slices.next().done);
}

function* prepareInSlices(graph: Graph): Generator<void, void, void> {
  liftConstants(graph);
  widenFloat16(graph);
  upgradeOpset(graph);
  yield;
  nameNodes(graph);
  const inference = inferShapes(graph, lookupOp);
  yield;
  foldConstants(graph, { inference });
  yield;
  eliminateNoops(graph);
  yield;
  inEveryGraph(graph, (each) => {
    foldBatchNorm(each);
    fuseHardSwish(each);
  });
  yield;
  inEveryGraph(graph, fuseLayerNorm);
  yield;
  removeDeadNodes(graph);
}

/**
 * Brings the parts of transformers into the operators of com.microsoft: EmbedLayerNormalization, Attention, Gelu, FastGelu
 * and SkipLayerNormalization. Projections and lookups that `keep` tells stay as they are. Returns the nodes that stand for
 * several, EmbedLayerNormalization and Attention.
 */
export function fuseTransformers(graph: Graph, keep: (node: Node) => boolean): Node[] {
  inferShapes(graph, lookupOp);
  const fused: Node[] = [];
  // What it makes of sizes is known by name, however they were computed.
  inEveryGraph(graph, (each) => fused.push(...fuseEmbedLayerNorm(each, keep)));
  if (fused.length > 0) {
    removeDeadNodes(graph);
    inferShapes(graph, lookupOp);
  }
  inEveryGraph(graph, (each) => fuseGelu(each));
  inEveryGraph(graph, (each) => fused.push(...fuseAttention(each, keep)));
  removeDeadNodes(graph);
  inferShapes(graph, lookupOp);
  inEveryGraph(graph, fuseSkipLayerNorm);
  removeDeadNodes(graph);
  inferShapes(graph, lookupOp);
  return fused;
}

/** Makes Gelu of what exporters write for it, but for nodes that `keep` tells. Returns the new nodes. */
export function fuseGelus(graph: Graph, keep: (node: Node) => boolean): Node[] {
  inferShapes(graph, lookupOp);
  const fused: Node[] = [];
  inEveryGraph(graph, (each) => fused.push(...fuseGelu(each, keep)));
  if (fused.length === 0) return fused;
  removeDeadNodes(graph);
  inferShapes(graph, lookupOp);
  return fused;
}

/**
 * {@link prepare}, and what only the runtime wants: integer operators out of Q/DQ and around integer products, fused
 * activations and biases.
 */
export function lowerForRuntime(graph: Graph): void {
  const slices = lowerInSlices(graph);
  while (!slices.next().done);
}

/** {@link lowerForRuntime}, which may be interrupted between passes as long as nobody else sees the graph. */
export function* lowerInSlices(graph: Graph): Generator<void, void, void> {
  yield* prepareInSlices(graph);
  inEveryGraph(graph, (each) => fuseQdq(each, { internal: true }));
  yield;
  // What Q/DQ is left runs in float; its weights are needed as such, whatever they take.
  inferShapes(graph, lookupOp, { onlyNew: true });
  yield;
  foldConstants(graph, { dequantize: true, maxBytes: Number.POSITIVE_INFINITY });
  yield;
  inEveryGraph(graph, (each) => {
    fusePad(each);
    fuseIntegerProducts(each);
  });
  yield;
  inEveryGraph(graph, fuseTables);
  yield;
  inEveryGraph(graph, cancelTransposes);
  yield;
  inEveryGraph(graph, foldBatchNorm);
  yield;
  inEveryGraph(graph, fuseMatmulBias);
  yield;
  inEveryGraph(graph, (each) => {
    fuseActivation(each);
    fuseSoftmaxGuard(each);
  });
  yield;
  removeDeadNodes(graph);
  inferShapes(graph, lookupOp, { onlyNew: true });
}
