/**
 * The recurrence of LSTM, shared by the float operator and the one with quantized weights, which differ in how they multiply.
 * Gates are stored in the order input, output, forget, cell.
 */
import type { Dim, Node, ValueType } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import type { InferContext } from '../define-op';
import {
  checkSize,
  inferRecurrent,
  initialState,
  type RecurrentOptions,
  recurrentOptions,
  recurrentOutputs,
  sequenceLengths,
} from './recurrent';
import { transpose } from './strided';
import { toDoubles } from './values';

interface LstmOptions extends RecurrentOptions {
  couplesGates: boolean;
}

function optionsOf(node: Node, hidden: number): LstmOptions {
  return {
    ...recurrentOptions(node, hidden, ['Sigmoid', 'Tanh', 'Tanh']),
    couplesGates: node.attributes.int('input_forget', 0) !== 0,
  };
}

/** Types of Y, Y_h and Y_c, for `hidden` elements of a state. */
export function inferLstm(context: InferContext, hidden: Dim): ValueType[] {
  const { dtype } = context.input(0);
  const { sequence, state } = inferRecurrent(context, optionsOf(context.node, 0), hidden);
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
  const count = options.directions.length;
  const x = options.batchFirst ? transpose(inputs.x, [1, 0, 2]) : inputs.x;
  const [length, batch] = x.dims;
  const stateSize = count * batch * hidden;
  const { bias, peepholes } = inputs;
  checkSize(node, 'the bias', bias, count * 8 * hidden);
  checkSize(node, 'initial_h', inputs.h, stateSize);
  checkSize(node, 'initial_c', inputs.c, stateSize);
  checkSize(node, 'P', peepholes, count * 3 * hidden);
  const lengths = sequenceLengths(node, inputs.lengths, batch, length);
  const data = {
    bias: bias ? toDoubles(bias) : new Float64Array(count * 8 * hidden),
    peepholes: peepholes ? toDoubles(peepholes) : new Float64Array(count * 3 * hidden),
    h: initialState(inputs.h, stateSize, options),
    c: initialState(inputs.c, stateSize, options),
    y: new Float64Array(length * stateSize),
  };
  const rows = toDoubles(x);
  for (let d = 0; d < count; d++) {
    runDirection(data, options, { d, batch, length, lengths, fromInput: products.input(d, rows), products });
  }
  return recurrentOutputs(x.type, data.y, [length, count, batch, hidden], [data.h, data.c], options);
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
