/**
 * Copies of a graph that give out tensors inside it: what calibration, algorithms and comparisons look at. Originals are not
 * changed.
 */
import { type Graph, isConcrete, type Node, subgraphsOf, Value, type ValueType } from '../graph/graph';
import { inferTypes } from '../graph/infer';
import { lookupOp } from '../ops/registry';
import { sizeOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { removeDeadNodes } from './remove-dead-nodes';

/** How codes become reals. All are values of the graph that the codes are in. */
export interface CodeParams {
  scale: Value;
  zeroPoint: Value | null;
  /** Set when there is a scale per index of this axis (0 or more). */
  axis: number | undefined;
}

/** A tensor of a graph that stands for reals: floats, or codes with constant parameters. */
export interface RealTensor {
  /** The name under which it is given out. */
  name: string;
  value: Value;
  /** Present when `value` holds codes. */
  params?: CodeParams;
}

export type TwinOf = (value: Value) => Value;

/** A clone, and the way from values of the original, bodies included, to those of the clone. */
export function copyOf(graph: Graph): { copy: Graph; twinOf: TwinOf } {
  const copy = graph.clone();
  const twins = new Map<Value, Value>();
  pairValues(graph, copy, twins);
  return { copy, twinOf: (value) => twins.get(value)! };
}

function pairValues(graph: Graph, copy: Graph, twins: Map<Value, Value>): void {
  const pair = (originals: readonly (Value | null)[], clones: readonly (Value | null)[]): void => {
    for (const [i, value] of originals.entries()) if (value) twins.set(value, clones[i]!);
  };
  pair(graph.inputs, copy.inputs);
  // A clone lists its nodes in the order of the original's execution.
  const clones = copy.nodes.values();
  for (const node of graph.topologicalOrder()) {
    const clone: Node = clones.next().value!;
    pair(node.inputs, clone.inputs);
    pair(node.outputs, clone.outputs);
    const bodies = subgraphsOf(clone);
    for (const [i, body] of subgraphsOf(node).entries()) pairValues(body, bodies[i], twins);
  }
}

/** A copy whose only outputs are these tensors as float32, in this order. */
export function givingOut(graph: Graph, tensors: readonly RealTensor[]): Graph {
  const { copy, twinOf } = copyOf(graph);
  giveOut(copy, tensors, twinOf);
  return copy;
}

/** Makes the twins of these tensors the only outputs of a copy. */
export function giveOut(copy: Graph, tensors: readonly RealTensor[], twinOf: TwinOf): void {
  copy.outputs.length = 0;
  for (const { name, value, params } of tensors)
    copy.outputs.push(outputFor(copy, name, twinOf(value), params, twinOf));
  removeDeadNodes(copy);
}

function outputFor(copy: Graph, name: string, twin: Value, params: CodeParams | undefined, twinOf: TwinOf): Value {
  if (!params && twin.producer && twin.name === name) return twin;
  const output = new Value(name, { dtype: 'float32', shape: twin.type?.shape });
  // The tensor may be an input, or be named otherwise; a node in between gives it its public name.
  if (twin.name === name && twin.producer) twin.name = copy.uniqueName(`${name}_inside`);
  if (!params) {
    copy.addNode({ name: '', op: 'Identity', inputs: [twin], outputs: [output] });
    return output;
  }
  const { scale, zeroPoint, axis = 0 } = params;
  copy.addNode({
    name: '',
    op: 'DequantizeLinear',
    inputs: [twin, twinOf(scale), zeroPoint && twinOf(zeroPoint)],
    outputs: [output],
    attributes: { axis: { kind: 'int', value: axis } },
  });
  return output;
}

/** Elements that one run of a model may give out (256 MiB of float32); more tensors are given out by further runs. */
const ELEMENTS_PER_RUN = 2 ** 26;

/**
 * Splits what has tensors of a graph so that those of each batch fit in memory together, by the sizes that these inputs give
 * them. `copies`: how many of each are in memory at a time.
 */
export function batchesOf<T>(
  graph: Graph,
  items: readonly T[],
  tensorOf: (item: T) => Value,
  feed: Readonly<Record<string, Tensor>>,
  copies = 1,
): T[][] {
  const inputTypes = new Map(
    graph.inputs.flatMap((value): [Value, ValueType][] => {
      const tensor = feed[value.name];
      return tensor ? [[value, { dtype: tensor.type, shape: tensor.dims }]] : [];
    }),
  );
  const types = inferTypes(graph, lookupOp, { inputTypes });
  const result: T[][] = [];
  let elements = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const shape = types.typeOf(tensorOf(item))?.shape;
    const size = copies * (isConcrete(shape) ? sizeOf(shape) : 0);
    if (elements + size > ELEMENTS_PER_RUN) {
      result.push([]);
      elements = 0;
    }
    result[result.length - 1].push(item);
    elements += size;
  }
  return result;
}
