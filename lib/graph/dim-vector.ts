/**
 * Pieces of shapes as data: what Shape makes and Gather, Slice, Concat, Squeeze, Unsqueeze, Reshape, Cast, Identity, sums
 * and the Where of exporters carry on. Ordinary constants cannot express [N, 3, H, W] with N unknown; lists of dimensions can, and an element picked from one
 * is a constant again when that dimension has a number.
 */
import type { Tensor } from '../tensor/tensor';
import type { Dim, Node, Value, ValueType } from './graph';

/** What is known about the inputs of a node. */
export interface Knowledge {
  typeOf(value: Value): ValueType | undefined;
  constantOf(value: Value): Tensor | undefined;
  dimsOf(value: Value): readonly Dim[] | undefined;
}

/** The first output of `node` as a list of dimensions (one for a scalar), or undefined when it is not a piece of a shape. */
export function dimVector(node: Node, knowledge: Knowledge): readonly Dim[] | undefined {
  if (node.domain !== '') return undefined;
  const first = node.input(0);
  switch (node.op) {
    case 'Shape':
      return first
        ? sliced(knowledge.typeOf(first)?.shape, node.attributes.int('start', 0), node.attributes.int('end'))
        : undefined;
    case 'Identity':
    case 'Cast':
    case 'Squeeze':
    case 'Unsqueeze':
    case 'Reshape':
      // The type of the output decides about rank and dtype; only lists that stay lists or scalars come here.
      return first ? knowledge.dimsOf(first) : undefined;
    case 'Concat':
      return concatenated(node, knowledge);
    case 'Gather':
      return first ? gathered(knowledge.dimsOf(first), integers(node.input(1), knowledge)) : undefined;
    case 'Slice':
      return slicedByInputs(node, knowledge);
    case 'Where':
      return replaced(node, knowledge);
    case 'Add':
    case 'Sub':
      return combined(node, knowledge);
    default:
      return undefined;
  }
}

/** The elements of a constant scalar or vector of integers. */
function integers(value: Value | null, knowledge: Knowledge): number[] | undefined {
  const tensor = value ? knowledge.constantOf(value) : undefined;
  if (!tensor || tensor.dims.length > 1 || (tensor.type !== 'int64' && tensor.type !== 'int32')) return undefined;
  return Array.from(tensor.data as BigInt64Array | Int32Array, Number);
}

function sliced(dims: readonly Dim[] | undefined, start: number, end?: number): readonly Dim[] | undefined {
  // Array.slice counts and clamps negative and excessive bounds as ONNX does.
  return dims?.slice(start, end);
}

function concatenated(node: Node, knowledge: Knowledge): Dim[] | undefined {
  const parts: Dim[] = [];
  for (const value of node.inputs) {
    if (!value || knowledge.typeOf(value)?.shape?.length !== 1) return undefined;
    const part = knowledge.dimsOf(value) ?? integers(value, knowledge);
    if (!part?.every((dim) => typeof dim === 'string' || Number.isSafeInteger(dim))) return undefined;
    parts.push(...part);
  }
  return parts;
}

function gathered(dims: readonly Dim[] | undefined, indices: number[] | undefined): Dim[] | undefined {
  const picked = indices?.map((index) => dims?.at(index));
  return picked?.every((dim) => dim !== undefined) ? picked : undefined;
}

/** Slice since opset 10, forwards: inputs data, starts, ends, axes, steps. */
function slicedByInputs(node: Node, knowledge: Knowledge): readonly Dim[] | undefined {
  const data = node.input(0);
  const starts = integers(node.input(1), knowledge);
  const ends = integers(node.input(2), knowledge);
  const steps = node.input(4) ? integers(node.input(4), knowledge) : [1];
  if (!data || starts?.length !== 1 || ends?.length !== 1 || steps?.[0] !== 1) return undefined;
  return sliced(knowledge.dimsOf(data), starts[0], ends[0]);
}

/** Where(Equal(sizes, marks), others, sizes): how exporters replace the -1 of Expand. A size with a name is no mark. */
function replaced(node: Node, knowledge: Knowledge): Dim[] | undefined {
  const [condition, sizes] = [node.input(0)?.producer, node.input(2)];
  if (condition?.op !== 'Equal' || !sizes || condition.input(0) !== sizes) return undefined;
  const [marks, others] = [integers(condition.input(1), knowledge), integers(node.input(1), knowledge)];
  const dims = knowledge.dimsOf(sizes);
  if (!dims || marks?.length !== dims.length || others?.length !== dims.length) return undefined;
  return dims.map((dim, i) => (dim === marks[i] ? others[i] : dim));
}

/** Sums and differences that numbers or equal names decide. */
function combined(node: Node, knowledge: Knowledge): Dim[] | undefined {
  const [a, b] = [0, 1].map((i) => {
    const value = node.input(i);
    return value ? (knowledge.dimsOf(value) ?? integers(value, knowledge)) : undefined;
  });
  if (!a || a.length !== b?.length) return undefined;
  const result = a.map((dim, i): Dim | undefined => {
    const other = b[i];
    if (typeof dim === 'number' && typeof other === 'number') return node.op === 'Add' ? dim + other : dim - other;
    if (other === 0) return dim;
    if (node.op === 'Add') return dim === 0 ? other : undefined;
    return dim === other ? 0 : undefined;
  });
  return result.every((dim) => dim !== undefined) ? (result as Dim[]) : undefined;
}
