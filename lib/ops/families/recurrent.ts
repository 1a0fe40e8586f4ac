/** What LSTM and GRU have in common: attributes, shapes, initial states, and how they are quantized. */
import type { Dim, Node } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { InferContext, QuantTrait } from '../define-op';
import { modelError, shapeOfRank } from './inference';
import { transpose } from './strided';
import { fromDoubles, integersOf, toDoubles } from './values';

/** Weights W and R with a scale per row, which the directions share; the recurrence itself is float. */
export const RECURRENT_TRAIT: QuantTrait = {
  kind: 'weights',
  weights: [
    { input: 1, axis: 1 },
    { input: 2, axis: 1 },
  ],
};

const ACTIVATIONS: Record<string, (x: number) => number> = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
};

export interface RecurrentOptions {
  hidden: number;
  directions: ('forward' | 'reverse')[];
  /** The functions of every direction. */
  activations: ((x: number) => number)[][];
  clip: number;
  batchFirst: boolean;
}

/** @param defaults names of the activation functions of one direction. */
export function recurrentOptions(node: Node, hidden: number, defaults: readonly string[]): RecurrentOptions {
  const { attributes } = node;
  const direction = attributes.string('direction', 'forward');
  const directions = direction === 'bidirectional' ? ['forward', 'reverse'] : [direction];
  if (!directions.every((d) => d === 'forward' || d === 'reverse')) {
    throw modelError(node, 'forward, reverse or bidirectional', 'direction', direction);
  }
  const count = defaults.length;
  const names = attributes.strings('activations') ?? directions.flatMap(() => defaults);
  if (names.length !== count * directions.length)
    throw modelError(node, `${count * directions.length} names`, 'activations', names);
  const functions = names.map((name) => {
    const found = Object.entries(ACTIVATIONS).find(([known]) => known === name.toLowerCase())?.[1];
    if (!found) throw modelError(node, 'Sigmoid, Tanh or Relu', 'activations', name);
    return found;
  });
  return {
    hidden,
    directions: directions as RecurrentOptions['directions'],
    activations: directions.map((_, d) => functions.slice(count * d, count * d + count)),
    clip: attributes.float('clip', Number.POSITIVE_INFINITY),
    batchFirst: attributes.int('layout', 0) !== 0,
  };
}

/** Shapes of Y and of a final state, for `hidden` elements of a state. */
export function inferRecurrent(
  context: InferContext,
  { directions, batchFirst }: RecurrentOptions,
  hidden: Dim,
): { sequence: Dim[]; state: Dim[] } {
  const x = shapeOfRank(context, 0, 3);
  const [length, batch] = x ? (batchFirst ? [x[1], x[0]] : x) : [context.unknownDim(), context.unknownDim()];
  const count = directions.length;
  return batchFirst
    ? { sequence: [batch, length, count, hidden], state: [batch, count, hidden] }
    : { sequence: [length, count, batch, hidden], state: [count, batch, hidden] };
}

/** @throws ERR_Q8_BAD_MODEL when a tensor that is there has another size. */
export function checkSize(node: Node, name: string, tensor: Tensor | null | undefined, size: number): void {
  if (tensor && tensor.size !== size) throw modelError(node, `${size} elements`, name, `${tensor.size} elements`);
}

/** A state [D, B, H] (batch first: [B, D, H]) as doubles in the former order; zeros when absent. A fresh array. */
export function initialState(
  state: Tensor | null | undefined,
  size: number,
  { batchFirst }: RecurrentOptions,
): Float64Array {
  if (!state) return new Float64Array(size);
  return toDoubles(batchFirst ? transpose(state, [1, 0, 2]) : state);
}

/** How many steps each batch item has. */
export function sequenceLengths(node: Node, given: Tensor | null | undefined, batch: number, length: number): number[] {
  checkSize(node, 'sequence_lens', given, batch);
  const lengths = given ? integersOf(given) : new Array<number>(batch).fill(length);
  if (lengths.some((steps) => steps < 0 || steps > length))
    throw modelError(node, `integers in [0, ${length}]`, 'sequence_lens', lengths);
  return lengths;
}

/** Y [T, D, B, H] and states [D, B, H] as the tensors that the layout asks for. */
export function recurrentOutputs(
  type: Tensor['type'],
  y: Float64Array,
  yDims: readonly number[],
  states: readonly Float64Array[],
  { batchFirst }: RecurrentOptions,
): Tensor[] {
  const sequence = fromDoubles(type, y, yDims);
  const final = states.map((state) => fromDoubles(type, state, yDims.slice(1)));
  if (!batchFirst) return [sequence, ...final];
  return [transpose(sequence, [2, 0, 1, 3]), ...final.map((state) => transpose(state, [1, 0, 2]))];
}
