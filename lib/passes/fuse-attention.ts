/**
 * Self-attention as exporters of BERT, DistilBERT, MiniLM and ViT write it becomes com.microsoft Attention: three projections
 * of one tensor, heads split by Reshape and Transpose, scaled scores, perhaps a mask, Softmax, and the way back.
 */
import { type Dim, type Graph, type Node, Value } from '../graph/graph';
import { integersOf, scalarOf } from '../ops/families/values';
import { Tensor } from '../tensor/tensor';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** One of query, key, value, from the common input to [batch, heads, ...]. */
interface Branch {
  input: Value;
  matmul: Node;
  weight: Tensor<'float32'>;
  bias: Tensor<'float32'> | undefined;
  heads: number;
  headSize: number;
  /** Factor between projection and scores. */
  scale: number;
  nodes: Node[];
}

interface Mask {
  /** [batch, keys], 1 for keys that count. */
  keys: Value;
  filter: number;
}

/**
 * Needs types, and leaves nodes that nobody reads. `keep` tells projections that must stay as they are.
 * Returns the new nodes. Linear.
 */
export function fuseAttention(graph: Graph, keep: (node: Node) => boolean = () => false): Node[] {
  const captured = capturedValues(graph);
  const masks = new Map<Value, Value>();
  const made: Node[] = [];
  for (const softmax of graph.topologicalOrder()) {
    if (!isOp(softmax, 'Softmax') || !graph.nodes.has(softmax)) continue;
    const node = fuseAround(graph, softmax, captured, masks, keep);
    if (node) made.push(node);
  }
  return made;
}

function fuseAround(
  graph: Graph,
  softmax: Node,
  captured: ReadonlySet<Value>,
  masks: Map<Value, Value>,
  keep: (node: Node) => boolean,
): Node | undefined {
  const axis = softmax.attributes.int('axis', -1);
  if (axis !== -1 && axis !== 3) return undefined;
  const only = (node: Node): Node | undefined => onlyConsumer(graph, node.output, captured);
  const mix = only(softmax);
  if (!isOp(mix, 'MatMul') || mix.input(0) !== softmax.output) return undefined;
  const back = only(mix);
  const merge = isTranspose(back, [0, 2, 1, 3]) ? only(back) : undefined;
  if (!isOp(merge, 'Reshape') || captured.has(merge.output)) return undefined;

  const masked = unmask(softmax.requiredInput(0));
  if (!masked) return undefined;
  const scaled = unscale(masked.scores);
  const product = scaled.value.producer;
  if (!isOp(product, 'MatMul') || !graph.nodes.has(product)) return undefined;
  const query = branchOf(product.requiredInput(0), [0, 2, 1, 3]);
  const key = branchOf(product.requiredInput(1), [0, 2, 3, 1]);
  const value = branchOf(mix.requiredInput(1), [0, 2, 1, 3]);
  if (!query || !key || !value || value.scale !== 1) return undefined;
  const same = [key, value].every(
    ({ input, heads, headSize }) => input === query.input && heads === query.heads && headSize === query.headSize,
  );
  const width = query.heads * query.headSize;
  const output = merge.output.type?.shape;
  if (!same || (output && (output.length !== 3 || (typeof output[2] === 'number' && output[2] !== width))))
    return undefined;
  const branches = [query, key, value];
  if (branches.some(({ matmul }) => keep(matmul))) return undefined;
  const nodes = [...branches.flatMap((branch) => branch.nodes), product, mix, ...scaled.nodes, ...masked.nodes];
  // What is between the projections and the result must not be seen by anybody else; else both ways would be computed.
  if (nodes.some((node) => graph.isOutput(node.output) || captured.has(node.output))) return undefined;

  // Sizes that only look different are not worth a guess.
  const isMaskOfInput = masked.mask?.keys.type?.shape?.join() === query.input.type?.shape?.slice(0, 2).join();
  if (masked.mask && !isMaskOfInput) return undefined;
  const mask = masked.mask && keysAsInt32(graph, masked.mask.keys, masks);
  const result = new Value(graph.uniqueName(`${merge.output.name}_attention`), {
    dtype: 'float32',
    shape: output ?? [...(query.input.type?.shape?.slice(0, 2) ?? []), width],
  });
  const { name } = query.matmul;
  const depth = query.weight.dims[0];
  graph.replaceAllUses(merge.output, result);
  for (const node of [merge, back!, mix, softmax]) graph.removeNode(node);
  return graph.addNode({
    name: graph.uniqueName(`${name}_attention`),
    op: 'Attention',
    domain: 'com.microsoft',
    inputs: [
      query.input,
      graph.newConstant(
        `${name}_qkv_weight`,
        sideBySide(
          branches.map(({ weight }) => weight),
          depth,
          width,
        ),
      ),
      graph.newConstant(`${name}_qkv_bias`, joined(branches, width)),
      mask ?? null,
    ],
    outputs: [result],
    attributes: {
      num_heads: { kind: 'int', value: query.heads },
      scale: { kind: 'float', value: query.scale * key.scale * scaled.factor },
      ...(masked.mask && { mask_filter_value: { kind: 'float', value: masked.mask.filter } }),
    },
  });
}

/**
 * Follows heads back to their projection. `perm` is the order of the axes of [batch, length, heads, size] in `value`; for keys
 * it may be reached in two steps.
 */
function branchOf(value: Value, perm: readonly number[]): Branch | undefined {
  const nodes: Node[] = [];
  let { value: at, factor, nodes: scalings } = unscale(value);
  nodes.push(...scalings);
  let transpose = at.producer;
  let wanted = perm;
  if (perm[2] === 3 && isTranspose(transpose, [0, 1, 3, 2])) {
    nodes.push(transpose);
    const below = unscale(transpose.requiredInput(0));
    factor *= below.factor;
    nodes.push(...below.nodes);
    transpose = below.value.producer;
    wanted = [0, 2, 1, 3];
  }
  if (!isTranspose(transpose, wanted)) return undefined;
  const reshape = transpose.input(0)?.producer;
  if (!isOp(reshape, 'Reshape')) return undefined;
  const [, , heads, headSize, ...more] = wantedDims(reshape);
  if (!heads || !headSize || heads < 1 || headSize < 1 || more.length > 0) return undefined;
  nodes.push(transpose, reshape);
  ({ value: at, factor, nodes: scalings } = rescale(reshape.requiredInput(0), factor));
  nodes.push(...scalings);
  const width = heads * headSize;
  const added = biasOf(at, width);
  if (added) nodes.push(added.add);
  const last: Node | null = (added?.rest ?? at).producer;
  if (!isOp(last, 'MatMul')) return undefined;
  const weight = floatConstant(last.input(1));
  const input = last.requiredInput(0);
  if (weight?.dims.length !== 2 || weight.dims[1] !== width) return undefined;
  if (input.type?.shape?.length !== 3 || input.type.dtype !== 'float32' || input.constant) return undefined;
  nodes.push(last);
  return { input, matmul: last, weight, bias: added?.bias, heads, headSize, scale: factor, nodes };
}

/** The dimensions that a Reshape asks for, as far as they are constant; older exporters join them from pieces. */
function wantedDims(reshape: Node): (number | undefined)[] {
  const shape = reshape.requiredInput(1);
  if (shape.constant) return integersOf(shape.constant);
  const { producer } = shape;
  if (!isOp(producer, 'Concat')) return [];
  return producer.inputs.flatMap((piece): (number | undefined)[] => {
    if (piece?.constant) return integersOf(piece.constant);
    return piece?.type?.shape?.[0] === 1 ? [undefined] : [undefined, undefined];
  });
}

/** The row of `width` elements that is added last, if there is one. */
function biasOf(value: Value, width: number): { add: Node; bias: Tensor<'float32'>; rest: Value } | undefined {
  const add = value.producer;
  if (!isOp(add, 'Add')) return undefined;
  const index = floatConstant(add.input(0)) ? 0 : 1;
  const bias = floatConstant(add.input(index));
  if (bias?.size !== width || bias.dims.at(-1) !== width) return undefined;
  return { add, bias, rest: add.requiredInput(1 - index) };
}

function rescale(value: Value, factor: number): { value: Value; factor: number; nodes: Node[] } {
  const inner = unscale(value);
  return { ...inner, factor: factor * inner.factor };
}

/** value = factor * result, through Mul and Div by constants. */
function unscale(value: Value): { value: Value; factor: number; nodes: Node[] } {
  const node = value.producer;
  if (!isOp(node, 'Mul', 'Div')) return { value, factor: 1, nodes: [] };
  const right = floatConstant(node.input(1));
  const left = node.op === 'Mul' ? floatConstant(node.input(0)) : undefined;
  const constant = right ?? left;
  if (constant?.size !== 1) return { value, factor: 1, nodes: [] };
  const factor = scalarOf(constant);
  const inner = unscale(node.requiredInput(right ? 0 : 1));
  return {
    value: inner.value,
    factor: inner.factor * (node.op === 'Mul' ? factor : 1 / factor),
    nodes: [node, ...inner.nodes],
  };
}

/** Scores without the mask: that of Add(scores, (1 - mask) * filter), or of Where(mask == 0, filter, scores). */
function unmask(value: Value): { scores: Value; mask?: Mask; nodes: Node[] } | undefined {
  const node = value.producer;
  if (!node) return { scores: value, nodes: [] };
  if (isOp(node, 'Add')) {
    for (const i of [0, 1]) {
      const mask = additiveMask(node.requiredInput(i));
      if (mask) return { scores: node.requiredInput(1 - i), mask, nodes: [node] };
    }
    return undefined;
  }
  if (isOp(node, 'Where')) {
    const filter = floatConstant(node.input(1));
    const keys = filter?.size === 1 ? equalsZero(node.requiredInput(0)) : undefined;
    return keys && filter
      ? { scores: node.requiredInput(2), mask: { keys, filter: finite(filter.data[0]) }, nodes: [node] }
      : undefined;
  }
  return { scores: value, nodes: [] };
}

/** (1 - mask) * filter. */
function additiveMask(value: Value): Mask | undefined {
  const node = throughShapes(value).producer;
  if (!isOp(node, 'Mul')) return undefined;
  for (const i of [0, 1]) {
    const filter = floatConstant(node.input(i));
    const sub = throughShapes(node.requiredInput(1 - i)).producer;
    const one = isOp(sub, 'Sub') ? floatConstant(sub.input(0)) : undefined;
    if (!sub || filter?.size !== 1 || one?.size !== 1 || one.data[0] !== 1 || filter.data[0] >= 0) continue;
    const keys = throughShapes(sub.requiredInput(1));
    if (isKeys(keys)) return { keys, filter: finite(filter.data[0]) };
  }
  return undefined;
}

/** mask of mask == 0. */
function equalsZero(condition: Value): Value | undefined {
  const node = throughShapes(condition).producer;
  if (!isOp(node, 'Equal')) return undefined;
  for (const i of [0, 1]) {
    const constant = node.input(i)?.constant;
    const keys = throughShapes(node.requiredInput(1 - i));
    if (constant?.size === 1 && constant.type !== 'string' && scalarOf(constant) === 0 && isKeys(keys)) return keys;
  }
  return undefined;
}

/**
 * The value behind operators that only add dimensions of 1 in the middle, repeat along them, or change the type: all that
 * exporters do to a mask [batch, keys] before it meets scores [batch, heads, queries, keys].
 */
function throughShapes(value: Value): Value {
  let at = value;
  for (;;) {
    const node: Node | null = at.producer;
    if (isKeys(at) && !isOp(node, 'Cast')) return at;
    const from = isOp(node, 'Cast', 'Unsqueeze', 'Expand', 'Reshape') ? node.requiredInput(0) : undefined;
    // What a mask of rank 4 is expanded to are the scores.
    const isWhole = isOp(node, 'Expand') && from?.type?.shape?.length === 4;
    if (!from || !(isWhole || keepsBatchAndKeys(from.type?.shape, at.type?.shape))) return at;
    at = from;
  }
}

/** Whether both have the batch first and the keys last, and nothing of their own between. */
function keepsBatchAndKeys(from: readonly Dim[] | undefined, to: readonly Dim[] | undefined): boolean {
  if (!from || !to || from.length < 2 || to.length < from.length || to.length > 4) return false;
  const middles = from.slice(1, -1);
  return from[0] === to[0] && from[from.length - 1] === to[to.length - 1] && middles.every((dim) => dim === 1);
}

function isKeys({ type, constant }: Value): boolean {
  return !constant && type?.shape?.length === 2 && type.dtype !== 'string';
}

/** The mask as the operator takes it; one conversion for all layers. */
function keysAsInt32(graph: Graph, keys: Value, made: Map<Value, Value>): Value {
  if (keys.type?.dtype === 'int32') return keys;
  let cast = made.get(keys);
  if (!cast) {
    cast = graph.newValue(`${keys.name}_int32`, { dtype: 'int32', shape: keys.type?.shape });
    graph.addNode({
      name: graph.uniqueName(`${keys.name}_Cast`),
      op: 'Cast',
      inputs: [keys],
      outputs: [cast],
      attributes: { to: { kind: 'int', value: INT32 } },
    });
    made.set(keys, cast);
  }
  return cast;
}

/** Number of int32 in the attribute `to` of Cast. */
const INT32 = 6;
/** Runtimes add the filter to scores, so it must leave room. */
const LOWEST = -1e30;

function finite(filter: number): number {
  return Math.max(filter, LOWEST);
}

function isTranspose(node: Node | null | undefined, perm: readonly number[]): node is Node {
  return isOp(node, 'Transpose') && node.attributes.ints('perm')?.join() === perm.join();
}

/** Matrices [depth, width] as one [depth, 3 * width]. */
function sideBySide(weights: readonly Tensor<'float32'>[], depth: number, width: number): Tensor {
  const all = new Float32Array(3 * depth * width);
  weights.forEach(({ data }, part) => {
    for (let row = 0; row < depth; row++) {
      all.set(data.subarray(row * width, (row + 1) * width), (row * 3 + part) * width);
    }
  });
  return new Tensor('float32', all, [depth, 3 * width]);
}

function joined(branches: readonly Branch[], width: number): Tensor {
  const all = new Float32Array(3 * width);
  branches.forEach(({ bias }, part) => {
    if (bias) all.set(bias.data, part * width);
  });
  return new Tensor('float32', all);
}
