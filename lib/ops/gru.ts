/**
 * GRU (ai.onnx 1, 3, 7, 14, 22) in float. Inputs: X [T, B, I], W [D, 3H, I], R [D, 3H, H], bias [D, 6H], sequence_lens [B],
 * initial_h [D, B, H]. Gates are stored in the order update, reset, hidden.
 */
import type { Node } from '../graph/graph';
import { defineOp } from './define-op';
import { shapeOfRank } from './families/inference';
import {
  checkSize,
  inferRecurrent,
  initialState,
  RECURRENT_TRAIT,
  type RecurrentOptions,
  recurrentOptions,
  recurrentOutputs,
  sequenceLengths,
} from './families/recurrent';
import { transpose } from './families/strided';
import { toDoubles } from './families/values';

interface Options extends RecurrentOptions {
  /** Whether the reset gate is applied to the product with the state, its bias included, instead of to the state. */
  resetsProduct: boolean;
}

function optionsOf(node: Node, hidden: number): Options {
  return {
    ...recurrentOptions(node, hidden, ['Sigmoid', 'Tanh']),
    resetsProduct: node.attributes.int('linear_before_reset', 0) !== 0,
  };
}

export const GRU = defineOp({
  type: 'GRU',
  since: [1, 3, 7, 14, 22],
  quant: RECURRENT_TRAIT,
  inferShape(context) {
    const { dtype } = context.input(0);
    const r = shapeOfRank(context, 2, 3);
    const hidden = context.node.attributes.int('hidden_size') ?? r?.[2] ?? context.unknownDim();
    const { sequence, state } = inferRecurrent(context, optionsOf(context.node, 0), hidden);
    return [sequence, state].map((shape) => ({ dtype, shape }));
  },
  run([xInput, w, r, bias, lengthsInput, h0], { node }) {
    const hidden = r!.dims[2];
    const options = optionsOf(node, hidden);
    const count = options.directions.length;
    const x = options.batchFirst ? transpose(xInput!, [1, 0, 2]) : xInput!;
    const [length, batch, inputs] = x.dims;
    const stateSize = count * batch * hidden;
    checkSize(node, 'W', w, count * 3 * hidden * inputs);
    checkSize(node, 'R', r, count * 3 * hidden * hidden);
    checkSize(node, 'the bias', bias, count * 6 * hidden);
    checkSize(node, 'initial_h', h0, stateSize);
    const lengths = sequenceLengths(node, lengthsInput, batch, length);
    const data = {
      x: toDoubles(x),
      w: toDoubles(w!),
      r: toDoubles(r!),
      bias: bias ? toDoubles(bias) : new Float64Array(count * 6 * hidden),
      h: initialState(h0, stateSize, options),
      y: new Float64Array(length * stateSize),
    };
    for (let d = 0; d < count; d++) {
      for (let b = 0; b < batch; b++) runSequence(data, options, { d, b, batch, inputs, steps: lengths[b] });
    }
    return recurrentOutputs(x.type, data.y, [length, count, batch, hidden], [data.h], options);
  },
});

/** Runs one direction of one batch item; `h` is updated in place. */
function runSequence(
  data: Record<'x' | 'w' | 'r' | 'bias' | 'h' | 'y', Float64Array>,
  { hidden, directions, activations, clip, resetsProduct }: Options,
  { d, b, batch, inputs, steps }: { d: number; b: number; batch: number; inputs: number; steps: number },
): void {
  const [gate, candidate] = activations[d];
  const limit = (v: number): number => Math.max(-clip, Math.min(clip, v));
  const state = (d * batch + b) * hidden;
  const h = data.h.subarray(state, state + hidden);
  const rows = 3 * hidden;
  const recurrent = (row: number, vector: Float64Array): number => {
    const at = (d * rows + row) * hidden;
    let sum = data.bias[(2 * d + 1) * rows + row];
    for (let i = 0; i < hidden; i++) sum += data.r[at + i] * vector[i];
    return sum;
  };
  const update = new Float64Array(hidden);
  const reset = new Float64Array(hidden);
  const next = new Float64Array(hidden);
  for (let step = 0; step < steps; step++) {
    const t = directions[d] === 'forward' ? step : steps - 1 - step;
    const xAt = (t * batch + b) * inputs;
    const fromInput = (row: number): number => {
      const at = (d * rows + row) * inputs;
      let sum = data.bias[2 * d * rows + row];
      for (let i = 0; i < inputs; i++) sum += data.w[at + i] * data.x[xAt + i];
      return sum;
    };
    for (let i = 0; i < hidden; i++) {
      update[i] = gate(limit(fromInput(i) + recurrent(i, h)));
      reset[i] = gate(limit(fromInput(hidden + i) + recurrent(hidden + i, h)));
    }
    const resetState = resetsProduct ? h : h.map((v, i) => reset[i] * v);
    for (let i = 0; i < hidden; i++) {
      const product = recurrent(2 * hidden + i, resetState);
      next[i] = candidate(limit(fromInput(2 * hidden + i) + (resetsProduct ? reset[i] * product : product)));
    }
    const yAt = ((t * directions.length + d) * batch + b) * hidden;
    for (let i = 0; i < hidden; i++) {
      h[i] = (1 - update[i]) * next[i] + update[i] * h[i];
      data.y[yAt + i] = h[i];
    }
  }
}
