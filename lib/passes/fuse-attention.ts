/**
 * Self-attention becomes com.microsoft Attention: projections of one tensor (three, or one that holds all), heads split off,
 * scaled scores, perhaps a mask, Softmax, and the way back.
 */
import type { AttributeInit } from '../graph/attributes';
import { type Dim, type Graph, type Node, Value } from '../graph/graph';
import { integersOf } from '../ops/families/values';
import { Tensor } from '../tensor/tensor';
import { type Mask, type Masked, unmask } from './attention-mask';
import { capturedValues, castToInt32, guardOf, isOp, isShapeReader } from './matching';
import { type Axes, type Factor, isSameAxes, moved, rowAxes, type View, viewOf } from './projections';

/** Queries, keys and values as columns of their projections. */
interface Heads {
  heads: number;
  size: number;
  /** The column of the first element of each head is offset + head * headStride; its elements are `stride` apart. */
  headStride: number;
  stride: number;
}

/** What layers have in common. */
interface Shared {
  /** Masks as the operator takes them. */
  masks: Map<Value, Value>;
  /** Weights and biases side by side, for layers that are the same (ALBERT). */
  weights: Map<string, [Value, Value]>;
}

/**
 * Needs types, and leaves nodes that nobody reads. `keep` tells projections that must stay as they are.
 * Returns the new nodes. Linear.
 */
export function fuseAttention(graph: Graph, keep: (node: Node) => boolean = () => false): Node[] {
  const captured = capturedValues(graph);
  const shared: Shared = { masks: new Map(), weights: new Map() };
  const made: Node[] = [];
  for (const softmax of graph.topologicalOrder()) {
    if (!isOp(softmax, 'Softmax') || !graph.nodes.has(softmax)) continue;
    const node = fuseAround(graph, softmax, captured, shared, keep);
    if (node) made.push(node);
  }
  return made;
}

function fuseAround(
  graph: Graph,
  softmax: Node,
  captured: ReadonlySet<Value>,
  shared: Shared,
  keep: (node: Node) => boolean,
): Node | undefined {
  const axis = softmax.attributes.int('axis', -1);
  if (axis !== -1 && axis !== 3) return undefined;
  const isSeen = (value: Value): boolean => graph.isOutput(value) || captured.has(value);
  const guarded = guardOf(softmax);
  const weights = guarded?.guard.output ?? softmax.output;
  const mix = onlyReader(weights);
  if (!isOp(mix, 'MatMul') || mix.input(0) !== weights) return undefined;

  const value = viewOf(mix.requiredInput(1));
  const input = value?.projection.input;
  const [batch, length] = input?.type?.shape ?? [];
  if (!value || !input || batch === undefined || length === undefined || value.scale !== 1) return undefined;
  const masked = unmask(softmax.requiredInput(0), batch, length);
  const product = masked?.product.producer;
  if (!masked || !product) return undefined;
  const query = viewOf(product.requiredInput(0));
  const key = viewOf(product.requiredInput(1));
  if (!query || !key || query.projection.input !== input || key.projection.input !== input) return undefined;
  const views = [query, key, value];
  const parts = [
    headsOf(query.axes, batch, length, 'queries'),
    headsOf(key.axes, batch, length, 'keys'),
    headsOf(value.axes, batch, length, 'queries'),
  ];
  const [{ heads, size } = { heads: 0, size: 0 }] = parts;
  if (parts.some((part) => part?.heads !== heads || part.size !== size)) return undefined;
  if (views.some(({ projection }) => keep(projection.node))) return undefined;
  const merged = wayBack(mix, batch, length, heads, size, isSeen);
  if (!merged) return undefined;

  const nodes = [
    ...views.flatMap((view) => view.nodes),
    ...masked.nodes,
    product,
    softmax,
    ...(guarded ? [guarded.test, guarded.guard] : []),
    ...merged.nodes,
  ];
  if (!isPrivate(nodes, views, merged.value, isSeen)) return undefined;

  const width = heads * size;
  const result = new Value(graph.uniqueName(`${merged.value.name}_attention`), {
    dtype: 'float32',
    shape: [batch, length, width],
  });
  const last = merged.nodes[merged.nodes.length - 1];
  // A matrix of all rows is one Reshape further.
  if (merged.value.type?.shape?.length === 2) last.setInput(0, result);
  else graph.replaceAllUses(merged.value, result);
  return graph.addNode({
    name: graph.uniqueName(`${query.projection.node.name}_attention`),
    op: 'Attention',
    domain: 'com.microsoft',
    inputs: [
      input,
      ...packed(graph, views, parts as Heads[], width, shared),
      seenAsInt32(graph, masked.mask, shared.masks),
    ],
    outputs: [result],
    attributes: attributesOf(masked, heads, query.scale * key.scale),
  });
}

function attributesOf({ factor, mask }: Masked, heads: number, scale: number): AttributeInit {
  return {
    num_heads: { kind: 'int', value: heads },
    scale: { kind: 'float', value: scale * factor },
    ...(mask?.causal && { unidirectional: { kind: 'int', value: 1 } }),
    ...(mask && { mask_filter_value: { kind: 'float', value: mask.filter } }),
  };
}

/** The one node that reads `value`, apart from those that ask for its shape. */
function onlyReader(value: Value): Node | undefined {
  const readers = value.consumers.filter((node) => !isShapeReader(node));
  return readers.length === 1 ? readers[0] : undefined;
}

/** [batch, heads, length, size], or with the last two turned for keys. */
function headsOf(axes: Axes, batch: Dim, length: Dim, order: 'queries' | 'keys'): Heads | undefined {
  if (axes.length !== 4) return undefined;
  const [items, heads, ...rest] = axes;
  const [places, elements] = order === 'queries' ? rest : [rest[1], rest[0]];
  const [wantedItems, wantedPlaces] = rowAxes(batch, length, 0);
  if (!isSameAxes([items, places], [wantedItems, wantedPlaces])) return undefined;
  const [head, element] = [columnsOf(heads), columnsOf(elements)];
  return head && element && { heads: head.size, size: element.size, headStride: head.stride, stride: element.stride };
}

function columnsOf(factors: readonly Factor[]): { size: number; stride: number } | undefined {
  if (factors.length === 0) return { size: 1, stride: 0 };
  const [{ of, size, stride }] = factors;
  return factors.length === 1 && of === 'column' && typeof size === 'number' ? { size, stride } : undefined;
}

/** From [batch, heads, length, size] to the tensor [batch, length, heads * size], or to its rows as one matrix, along moves. */
function wayBack(
  mix: Node,
  batch: Dim,
  length: Dim,
  heads: number,
  size: number,
  isSeen: (value: Value) => boolean,
): { value: Value; nodes: Node[] } | undefined {
  const [items, places] = rowAxes(batch, length, 0);
  const columns = (count: number, stride: number): Factor[] =>
    count === 1 ? [] : [{ of: 'column', size: count, stride }];
  const wanted: Axes = [items, places, [...columns(heads, size), ...columns(size, 1)]];
  const nodes = [mix];
  let axes: Axes | undefined = [items, columns(heads, size), places, columns(size, 1)];
  for (let value = mix.output; ; ) {
    if (isSameAxes(axes, wanted)) return { value, nodes };
    const last = nodes[nodes.length - 1];
    if (isSameAxes(axes, [wanted.slice(0, 2).flat(), wanted[2]])) return keepsRows(last) ? { value, nodes } : undefined;
    const next = onlyReader(value);
    axes = next && !isSeen(value) && next.input(0) === value ? moved(next, axes) : undefined;
    if (!next || !axes) return undefined;
    nodes.push(next);
    value = next.output;
  }
}

/** Whether a Reshape gives the same from any shape of its input. */
function keepsRows(node: Node): boolean {
  const shape = node.input(1)?.constant;
  return isOp(node, 'Reshape') && !(shape && integersOf(shape).includes(0));
}

/**
 * Whether nobody sees what is between the projections and the result; else both ways would be computed. Parts of one
 * projection may be read by the other views, and shapes by anybody.
 */
function isPrivate(
  nodes: readonly Node[],
  views: readonly View[],
  result: Value,
  isSeen: (value: Value) => boolean,
): boolean {
  const inside = new Set(nodes);
  const isRead = (value: Value): boolean =>
    isSeen(value) || value.consumers.some((node) => !inside.has(node) && !asksForShape(node, isSeen));
  const outputs = [...inside].flatMap((node) => node.outputs).filter((value) => value !== null && value !== result);
  return views.every(({ projection }) => inside.has(projection.node)) && !outputs.some((value) => isRead(value!));
}

/** Whether only the shape of what the node gives is of interest to anybody. */
function asksForShape(node: Node, isSeen: (value: Value) => boolean, depth = 0): boolean {
  if (isShapeReader(node)) return true;
  return (
    depth < 8 &&
    isOp(node, 'Transpose', 'Reshape') &&
    !isSeen(node.output) &&
    node.output.consumers.every((reader) => asksForShape(reader, isSeen, depth + 1))
  );
}

/** Weight [depth, 3 * width] and bias [3 * width] of queries, keys and values side by side; the old weight, if it is that. */
function packed(
  graph: Graph,
  views: readonly View[],
  parts: readonly Heads[],
  width: number,
  shared: Shared,
): [Value, Value] {
  const key = JSON.stringify(views.map(({ projection, offset }, i) => [projection.key, offset, parts[i]]));
  const old = shared.weights.get(key);
  const made = old ?? sideBySide(graph, views, parts, width);
  shared.weights.set(key, made);
  return made;
}

function sideBySide(graph: Graph, views: readonly View[], parts: readonly Heads[], width: number): [Value, Value] {
  const [{ projection }] = views;
  const { name } = projection.node;
  const columns = views.map(({ offset }, i) => {
    const { heads, size, headStride, stride } = parts[i];
    return Int32Array.from({ length: heads * size }, (_, column) => {
      const head = Math.floor(column / size);
      return offset + head * headStride + (column - head * size) * stride;
    });
  });
  const depth = projection.weight.dims[0];
  const bias = new Float32Array(3 * width);
  views.forEach((view, part) => {
    const { data } = view.projection.bias ?? {};
    if (data)
      columns[part].forEach((column, i) => {
        bias[part * width + i] = data[column];
      });
  });
  const biasValue = graph.newConstant(`${name}_qkv_bias`, new Tensor('float32', bias));
  const isStored =
    projection.weightValue &&
    projection.weight.dims[1] === 3 * width &&
    views.every((view) => view.projection.node === projection.node) &&
    columns.every((part, i) => part.every((column, at) => column === i * width + at));
  if (isStored) return [projection.weightValue!, biasValue];
  const weight = new Float32Array(3 * depth * width);
  views.forEach((view, part) => {
    const { data, dims } = view.projection.weight;
    for (let row = 0; row < depth; row++) {
      const to = (row * 3 + part) * width;
      for (let i = 0; i < width; i++) weight[to + i] = data[row * dims[1] + columns[part][i]];
    }
  });
  return [graph.newConstant(`${name}_qkv_weight`, new Tensor('float32', weight, [depth, 3 * width])), biasValue];
}

/** The mask as the operator takes it; one conversion for all layers. */
function seenAsInt32(graph: Graph, mask: Mask | undefined, made: Map<Value, Value>): Value | null {
  if (!mask?.seen) return null;
  const { value, ones } = mask.seen;
  const old = made.get(value);
  if (old) return old;
  let seen = value;
  if (ones.length > 0) {
    const axes = graph.newConstant(`${value.name}_ones`, new Tensor('int64', [...ones]));
    const shape = value.type?.shape?.filter((_, axis) => !ones.includes(axis));
    const squeezed = graph.newValue(`${value.name}_squeezed`, { dtype: value.type!.dtype, shape });
    graph.addNode({
      name: graph.uniqueName(`${value.name}_Squeeze`),
      op: 'Squeeze',
      inputs: [seen, axes],
      outputs: [squeezed],
    });
    seen = squeezed;
  }
  if (seen.type?.dtype !== 'int32') seen = castToInt32(graph, seen);
  made.set(value, seen);
  return seen;
}
