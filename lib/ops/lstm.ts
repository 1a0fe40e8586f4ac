/**
 * LSTM (ai.onnx 1, 7, 14, 22) in float. Inputs: X [T, B, I], W [D, 4H, I], R [D, 4H, H], bias [D, 8H], sequence_lens [B],
 * initial_h and initial_c [D, B, H], peepholes [D, 3H]. Gates are stored in the order input, output, forget, cell.
 */
import type { Dim, Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, shapeOfRank } from './families/inference';
import { transpose } from './families/strided';
import { fromDoubles, integersOf, toDoubles } from './families/values';

const ACTIVATIONS: Record<string, (x: number) => number> = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
};

interface Options {
  hidden: number;
  directions: ('forward' | 'reverse')[];
  /** f, g and h of every direction. */
  activations: ((x: number) => number)[][];
  clip: number;
  couplesGates: boolean;
  batchFirst: boolean;
}

function optionsOf(node: Node, hidden: number): Options {
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
    directions: directions as Options['directions'],
    activations: directions.map((_, d) => functions.slice(3 * d, 3 * d + 3)),
    clip: attributes.float('clip', Number.POSITIVE_INFINITY),
    couplesGates: attributes.int('input_forget', 0) !== 0,
    batchFirst: attributes.int('layout', 0) !== 0,
  };
}

function checkSize(node: Node, name: string, tensor: Tensor | null | undefined, size: number): void {
  if (tensor && tensor.size !== size) throw modelError(node, `${size} elements`, name, `${tensor.size} elements`);
}

export const LSTM = defineOp({
  type: 'LSTM',
  since: [1, 7, 14, 22],
  inferShape(context) {
    const { node } = context;
    const { dtype } = context.input(0);
    const x = shapeOfRank(context, 0, 3);
    const r = shapeOfRank(context, 2, 3);
    const hidden: Dim = node.attributes.int('hidden_size') ?? r?.[2] ?? context.unknownDim();
    const { directions, batchFirst } = optionsOf(node, 0);
    const [length, batch] = x ? (batchFirst ? [x[1], x[0]] : x) : [context.unknownDim(), context.unknownDim()];
    const count = directions.length;
    const state = batchFirst ? [batch, count, hidden] : [count, batch, hidden];
    const sequence = batchFirst ? [batch, length, count, hidden] : [length, count, batch, hidden];
    return [sequence, state, state].map((shape) => ({ dtype, shape }));
  },
  run([xInput, w, r, bias, lengthsInput, h0, c0, peepholes], { node }) {
    const hidden = r!.dims[2];
    const options = optionsOf(node, hidden);
    const count = options.directions.length;
    const x = options.batchFirst ? transpose(xInput!, [1, 0, 2]) : xInput!;
    const [length, batch, inputs] = x.dims;
    checkSize(node, 'W', w, count * 4 * hidden * inputs);
    checkSize(node, 'R', r, count * 4 * hidden * hidden);
    checkSize(node, 'the bias', bias, count * 8 * hidden);
    checkSize(node, 'sequence_lens', lengthsInput, batch);
    checkSize(node, 'initial_h', h0, count * batch * hidden);
    checkSize(node, 'initial_c', c0, count * batch * hidden);
    checkSize(node, 'P', peepholes, count * 3 * hidden);
    const initial = (state: Tensor | null | undefined): Float64Array => {
      if (!state) return new Float64Array(count * batch * hidden);
      return toDoubles(options.batchFirst ? transpose(state, [1, 0, 2]) : state);
    };
    const lengths = lengthsInput ? integersOf(lengthsInput) : new Array<number>(batch).fill(length);
    if (lengths.some((steps) => steps < 0 || steps > length))
      throw modelError(node, `integers in [0, ${length}]`, 'sequence_lens', lengths);
    const data = {
      x: toDoubles(x),
      w: toDoubles(w!),
      r: toDoubles(r!),
      bias: bias ? toDoubles(bias) : new Float64Array(count * 8 * hidden),
      peepholes: peepholes ? toDoubles(peepholes) : new Float64Array(count * 3 * hidden),
      h: initial(h0),
      c: initial(c0),
      y: new Float64Array(length * count * batch * hidden),
    };
    for (let d = 0; d < count; d++) {
      for (let b = 0; b < batch; b++) runSequence(data, options, { d, b, batch, inputs, steps: lengths[b] });
    }
    const { type } = x;
    const y = fromDoubles(type, data.y, [length, count, batch, hidden]);
    const states = [data.h, data.c].map((state) => fromDoubles(type, state, [count, batch, hidden]));
    if (!options.batchFirst) return [y, ...states];
    return [transpose(y, [2, 0, 1, 3]), ...states.map((state) => transpose(state, [1, 0, 2]))];
  },
});

/** Runs one direction of one batch item; `h` and `c` are updated in place. */
function runSequence(
  data: Record<'x' | 'w' | 'r' | 'bias' | 'peepholes' | 'h' | 'c' | 'y', Float64Array>,
  { hidden, directions, activations, clip, couplesGates }: Options,
  { d, b, batch, inputs, steps }: { d: number; b: number; batch: number; inputs: number; steps: number },
): void {
  const [f, g, hActivation] = activations[d];
  const limit = (v: number): number => Math.max(-clip, Math.min(clip, v));
  const state = (d * batch + b) * hidden;
  const h = data.h.subarray(state, state + hidden);
  const c = data.c.subarray(state, state + hidden);
  const sums = new Float64Array(4 * hidden);
  const peephole = (gate: number, i: number): number => data.peepholes[(d * 3 + gate) * hidden + i];
  for (let step = 0; step < steps; step++) {
    const t = directions[d] === 'forward' ? step : steps - 1 - step;
    const xAt = (t * batch + b) * inputs;
    for (let row = 0; row < 4 * hidden; row++) {
      let sum = data.bias[d * 8 * hidden + row] + data.bias[d * 8 * hidden + 4 * hidden + row];
      const wAt = (d * 4 * hidden + row) * inputs;
      for (let i = 0; i < inputs; i++) sum += data.w[wAt + i] * data.x[xAt + i];
      const rAt = (d * 4 * hidden + row) * hidden;
      for (let i = 0; i < hidden; i++) sum += data.r[rAt + i] * h[i];
      sums[row] = sum;
    }
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
