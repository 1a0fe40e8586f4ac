/**
 * The recurrence of LSTM, shared by the float operator and the one with quantized weights, which differ in how they multiply.
 * Gates are stored in the order input, output, forget, cell.
 */
import type { Dim, Node, ValueType } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { InferContext } from '../define-op';
import { modelError, shapeOfRank } from './inference';
import { transpose } from './strided';
import { fromDoubles, integersOf, toDoubles } from './values';

const ACTIVATIONS: Record<string, (x: number) => number> = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
};

interface LstmOptions {
  /** Elements of a state. */
  hidden: number;
  directions: ('forward' | 'reverse')[];
  /** f, g and h of every direction. */
  activations: ((x: number) => number)[][];
  clip: number;
  couplesGates: boolean;
  batchFirst: boolean;
}

function optionsOf(node: Node, hidden: number): LstmOptions {
  const { attributes } = node;
  const direction = attributes.string('direction', 'forward');
  const directions = direction === 'bidirectional' ? ['forward', 'reverse'] : [direction];
  if (!directions.every((d) => d === 'forward' || d === 'reverse')) {
    throw modelError(node, 'forward, reverse or bidirectional', 'direction', direction);
  }
  const names = attributes.strings('activations') ?? directions.flatMap(() => ['Sigmoid', 'Tanh', 'Tanh']);
  if (names.length !== 3 * directions.length)
    throw modelError(node, `${3 * directions.length} names`, 'activations', names);
  const functions = names.map((name) => {
    const found = Object.entries(ACTIVATIONS).find(([known]) => known === name.toLowerCase())?.[1];
    if (!found) throw modelError(node, 'Sigmoid, Tanh or Relu', 'activations', name);
    return found;
  });
  return {
    hidden,
    directions: directions as LstmOptions['directions'],
    activations: directions.map((_, d) => functions.slice(3 * d, 3 * d + 3)),
    clip: attributes.float('clip', Number.POSITIVE_INFINITY),
    couplesGates: attributes.int('input_forget', 0) !== 0,
    batchFirst: attributes.int('layout', 0) !== 0,
  };
}

function checkSize(node: Node, name: string, tensor: Tensor | null | undefined, size: number): void {
  if (tensor && tensor.size !== size) throw modelError(node, `${size} elements`, name, `${tensor.size} elements`);
}

/** Types of Y, Y_h and Y_c, for `hidden` elements of a state. */
export function inferLstm(context: InferContext, hidden: Dim): ValueType[] {
  const { dtype } = context.input(0);
  const x = shapeOfRank(context, 0, 3);
  const { directions, batchFirst } = optionsOf(context.node, 0);
  const [length, batch] = x ? (batchFirst ? [x[1], x[0]] : x) : [context.unknownDim(), context.unknownDim()];
  const count = directions.length;
  const state = batchFirst ? [batch, count, hidden] : [count, batch, hidden];
  const sequence = batchFirst ? [batch, length, count, hidden] : [length, count, batch, hidden];
  return [sequence, state, state].map((shape) => ({ dtype, shape }));
}

/** Rows times the weights of one direction: [rows, 4 * hidden]. */
export interface LstmProducts {
  /** x [length * batch, inputs] times W. */
  input(direction: number, x: Float64Array): Float64Array;
  /** h [batch, hidden] times R. */
  state(direction: number, h: Float64Array): Float64Array;
}

/** Inputs 0 and 3 to 7 of the operators. */
export interface LstmInputs {
  x: Tensor;
  bias: Tensor | null | undefined;
  lengths: Tensor | null | undefined;
  h: Tensor | null | undefined;
  c: Tensor | null | undefined;
  peepholes: Tensor | null | undefined;
}

/** Y, Y_h and Y_c. */
export function runLstm(node: Node, hidden: number, inputs: LstmInputs, products: LstmProducts): Tensor[] {
  const options = optionsOf(node, hidden);
  const { directions, batchFirst } = options;
  const count = directions.length;
  const x = batchFirst ? transpose(inputs.x, [1, 0, 2]) : inputs.x;
  const [length, batch] = x.dims;
  const { bias, peepholes } = inputs;
  checkSize(node, 'the bias', bias, count * 8 * hidden);
  checkSize(node, 'sequence_lens', inputs.lengths, batch);
  checkSize(node, 'initial_h', inputs.h, count * batch * hidden);
  checkSize(node, 'initial_c', inputs.c, count * batch * hidden);
  checkSize(node, 'P', peepholes, count * 3 * hidden);
  const initial = (state: Tensor | null | undefined): Float64Array => {
    if (!state) return new Float64Array(count * batch * hidden);
    return toDoubles(batchFirst ? transpose(state, [1, 0, 2]) : state);
  };
  const lengths = inputs.lengths ? integersOf(inputs.lengths) : new Array<number>(batch).fill(length);
  if (lengths.some((steps) => steps < 0 || steps > length))
    throw modelError(node, `integers in [0, ${length}]`, 'sequence_lens', lengths);
  const data = {
    bias: bias ? toDoubles(bias) : new Float64Array(count * 8 * hidden),
    peepholes: peepholes ? toDoubles(peepholes) : new Float64Array(count * 3 * hidden),
    h: initial(inputs.h),
    c: initial(inputs.c),
    y: new Float64Array(length * count * batch * hidden),
  };
  const rows = toDoubles(x);
  for (let d = 0; d < count; d++) {
    runDirection(data, options, { d, batch, length, lengths, fromInput: products.input(d, rows), products });
  }
  const { type } = x;
  const y = fromDoubles(type, data.y, [length, count, batch, hidden]);
  const states = [data.h, data.c].map((state) => fromDoubles(type, state, [count, batch, hidden]));
  if (!batchFirst) return [y, ...states];
  return [transpose(y, [2, 0, 1, 3]), ...states.map((state) => transpose(state, [1, 0, 2]))];
}

/** All time steps of one direction; `h` and `c` are updated in place. A sequence that is over keeps its state. */
function runDirection(
  data: Record<'bias' | 'peepholes' | 'h' | 'c' | 'y', Float64Array>,
  { hidden, directions, activations, clip, couplesGates }: LstmOptions,
  run: {
    d: number;
    batch: number;
    length: number;
    lengths: readonly number[];
    fromInput: Float64Array;
    products: LstmProducts;
  },
): void {
  const { d, batch, length, lengths, fromInput, products } = run;
  const [f, g, hActivation] = activations[d];
  const limit = (v: number): number => Math.max(-clip, Math.min(clip, v));
  const states = data.h.subarray(d * batch * hidden, (d + 1) * batch * hidden);
  const bias = data.bias.subarray(d * 8 * hidden, (d + 1) * 8 * hidden);
  const peephole = (gate: number, i: number): number => data.peepholes[(d * 3 + gate) * hidden + i];
  const sums = new Float64Array(4 * hidden);
  for (let step = 0; step < length; step++) {
    const fromState = products.state(d, states);
    for (let b = 0; b < batch; b++) {
      if (step >= lengths[b]) continue;
      const t = directions[d] === 'forward' ? step : lengths[b] - 1 - step;
      for (let row = 0; row < 4 * hidden; row++) {
        const product = fromInput[(t * batch + b) * 4 * hidden + row] + fromState[b * 4 * hidden + row];
        sums[row] = product + bias[row] + bias[4 * hidden + row];
      }
      const at = (d * batch + b) * hidden;
      const h = data.h.subarray(at, at + hidden);
      const c = data.c.subarray(at, at + hidden);
      const yAt = ((t * directions.length + d) * batch + b) * hidden;
      for (let i = 0; i < hidden; i++) {
        const input = f(limit(sums[i] + peephole(0, i) * c[i]));
        const forget = couplesGates ? 1 - input : f(limit(sums[2 * hidden + i] + peephole(2, i) * c[i]));
        c[i] = forget * c[i] + input * g(limit(sums[3 * hidden + i]));
        const output = f(limit(sums[hidden + i] + peephole(1, i) * c[i]));
        h[i] = output * hActivation(c[i]);
        data.y[yAt + i] = h[i];
      }
    }
  }
}
