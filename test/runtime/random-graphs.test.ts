/**
 * Random graphs through the whole pipeline: values with many readers, several outputs, changing layouts. What memory
 * planning, in-place steps and layout conversions get wrong shows here first.
 */
import type { Graph, Value } from '../../lib/graph/graph';
import { interpret } from '../../lib/runtime/interpret';
import { InferenceSession } from '../../lib/runtime/session';
import type { Tensor } from '../../lib/tensor/tensor';
import { assertClose, codes, GraphBuilder, int, ints, modelBytes, noise, random } from './helpers';

const SEEDS = 40;
const NODES = 25;
const SHAPE = [2, 4, 5, 6];
const CONV = { pads: ints(1, 1, 1, 1) };

type Maker = (b: GraphBuilder, pick: () => Value, seed: number) => Value;

const FLOAT_MAKERS: readonly Maker[] = [
  (b, pick) => b.node('Relu', [pick()]),
  (b, pick) => b.node('Sigmoid', [pick()]),
  (b, pick) => b.node('Tanh', [b.node('Add', [pick(), pick()])]),
  (b, pick) => b.node('Sub', [pick(), pick()]),
  (b, pick) => b.node('Mul', [b.node('Tanh', [pick()]), pick()]),
  (b, pick, seed) => b.node('Mul', [pick(), b.weights([1, 4, 1, 1], 1, seed)]),
  (b, pick, seed) => b.node('Add', [b.weights([6], 1, seed), pick()]),
  (b, pick, seed) => b.node('Conv', [pick(), b.weights([4, 4, 3, 3], 0.2, seed), b.weights([4], 1, seed)], CONV),
  (b, pick, seed) =>
    b.node('Relu', [b.node('Conv', [pick(), b.weights([4, 1, 3, 3], 0.3, seed)], { ...CONV, group: int(4) })]),
  (b, pick) => b.node('MaxPool', [pick()], { kernel_shape: ints(3, 3), ...CONV }),
  (b, pick) => b.node('Mul', [pick(), b.node('Sigmoid', [b.node('GlobalAveragePool', [pick()])])]),
  (b, pick) =>
    b.node(
      'Transpose',
      [b.node('Softmax', [b.node('Transpose', [pick()], { perm: ints(0, 2, 3, 1) })], { axis: int(-1) })],
      { perm: ints(0, 3, 1, 2) },
    ),
  (b, pick) =>
    b.node('Reshape', [
      b.node('Relu', [b.node('Reshape', [pick(), b.constant('int64', [2, -1])])]),
      b.constant('int64', SHAPE),
    ]),
  (b, pick) =>
    b.node('Slice', [
      b.node('Concat', [pick(), pick()], { axis: int(1) }),
      b.constant('int64', [2]),
      b.constant('int64', [6]),
      b.constant('int64', [1]),
    ]),
  (b, pick, seed) => b.node('MatMul', [pick(), b.weights([6, 6], 0.3, seed)]),
];

const params = (b: GraphBuilder, scale: number, zeroPoint: number): Value[] => [
  b.constant('float32', [scale], []),
  b.constant('uint8', [zeroPoint], []),
];

/** A convolution of 4 channels to 4, depthwise with group 4. */
const qconv = (b: GraphBuilder, x: Value, seed: number, group = 1): Value =>
  b.node(
    'QLinearConv',
    [
      x,
      ...params(b, 0.02, 100),
      b.graph.newConstant('w', codes('int8', [4, 4 / group, 3, 3], -128, 127, seed)),
      b.constant('float32', [0.003], []),
      b.constant('int8', [0], []),
      ...params(b, 0.02, 100),
    ],
    { ...CONV, group: int(group) },
  );

const CODE_MAKERS: readonly Maker[] = [
  (b, pick) =>
    b.node(
      'QLinearAdd',
      [pick(), ...params(b, 0.02, 100), pick(), ...params(b, 0.02, 100), ...params(b, 0.02, 100)],
      {},
      'com.microsoft',
    ),
  (b, pick) =>
    b.node(
      'QLinearMul',
      [pick(), ...params(b, 0.02, 100), pick(), ...params(b, 0.02, 100), ...params(b, 0.02, 100)],
      {},
      'com.microsoft',
    ),
  (b, pick) =>
    b.node('QLinearSigmoid', [pick(), ...params(b, 0.02, 100), ...params(b, 0.02, 100)], {}, 'com.microsoft'),
  (b, pick) => b.node('MaxPool', [pick()], { kernel_shape: ints(3, 3), ...CONV }),
  // What is finished while it is hot: activations and residuals behind convolutions, concatenations of them.
  (b, pick, seed) =>
    b.node(
      'QLinearSigmoid',
      [qconv(b, pick(), seed, seed % 2 === 0 ? 1 : 4), ...params(b, 0.02, 100), ...params(b, 0.02, 100)],
      {},
      'com.microsoft',
    ),
  (b, pick, seed) => {
    const x = qconv(b, pick(), seed);
    const gate = b.node('QLinearSigmoid', [x, ...params(b, 0.02, 100), ...params(b, 1 / 256, 0)], {}, 'com.microsoft');
    return b.node(
      'QLinearMul',
      [x, ...params(b, 0.02, 100), gate, ...params(b, 1 / 256, 0), ...params(b, 0.02, 100)],
      {},
      'com.microsoft',
    );
  },
  (b, pick, seed) => {
    const operands = [qconv(b, pick(), seed), pick()];
    if (seed % 2) operands.reverse();
    const [a, c] = operands;
    return b.node(
      'QLinearAdd',
      [a, ...params(b, 0.02, 100), c, ...params(b, 0.03, 90), ...params(b, 0.02, 100)],
      {},
      'com.microsoft',
    );
  },
  (b, pick, seed) =>
    b.node('Slice', [
      b.node(
        'QLinearConcat',
        [
          ...params(b, 0.02, 100),
          qconv(b, pick(), seed),
          ...params(b, 0.02, 100),
          pick(),
          ...params(b, 0.02, 100),
          qconv(b, pick(), seed + 1, 4),
          ...params(b, 0.03, 80),
        ],
        { axis: int(1) },
        'com.microsoft',
      ),
      b.constant('int64', [seed % 2 ? 2 : 3]),
      b.constant('int64', [seed % 2 ? 6 : 11]),
      b.constant('int64', [1]),
      b.constant('int64', [seed % 2 ? 1 : 2]),
    ]),
  (b, pick, seed) =>
    b.node('QuantizeLinear', [
      b.node('DequantizeLinear', [qconv(b, pick(), seed), ...params(b, 0.02, 100)]),
      ...params(b, 0.02, 100),
    ]),
  (b, pick, seed) =>
    b.node(
      'QLinearConv',
      [
        pick(),
        ...params(b, 0.02, 100),
        b.graph.newConstant('w', codes('int8', [4, 4, 3, 3], -128, 127, seed)),
        b.constant('float32', [0.003], []),
        b.constant('int8', [0], []),
        ...params(b, 0.02, 100),
      ],
      CONV,
    ),
  (b, pick, seed) =>
    b.node(
      'QLinearConv',
      [
        pick(),
        ...params(b, 0.02, 100),
        b.graph.newConstant('w', codes('uint8', [4, 1, 3, 3], 0, 255, seed)),
        b.constant('float32', [0.004], []),
        b.constant('uint8', [120], []),
        ...params(b, 0.02, 100),
      ],
      { ...CONV, group: int(4) },
    ),
  (b, pick) =>
    b.node('Transpose', [b.node('Transpose', [pick()], { perm: ints(0, 2, 3, 1) })], { perm: ints(0, 3, 1, 2) }),
  (b, pick) =>
    b.node('Transpose', [b.node('Transpose', [pick()], { perm: ints(1, 0, 2, 3) })], { perm: ints(1, 0, 2, 3) }),
  (b, pick) =>
    b.node('Slice', [
      b.node('Concat', [pick(), pick()], { axis: int(1) }),
      b.constant('int64', [1]),
      b.constant('int64', [5]),
      b.constant('int64', [1]),
    ]),
];

function randomGraph(seed: number, dtype: 'float32' | 'uint8', makers: readonly Maker[]): Graph {
  const next = random(seed);
  const b = new GraphBuilder();
  const values: Value[] = [b.input('x', dtype, SHAPE), b.input('y', dtype, SHAPE)];
  // Recent values are likelier, so that chains form and old values live long.
  const pick = (): Value => values[Math.floor(values.length * Math.sqrt(next()))];
  for (let i = 0; i < NODES; i++) values.push(makers[Math.floor(next() * makers.length)](b, pick, seed * NODES + i));
  const outputs = [...new Set([values[values.length - 1], values[NODES >> 1], pick()])].filter(
    (value) => value.producer,
  );
  return b.outputs(
    outputs,
    outputs.map(() => ({ dtype, shape: SHAPE })),
  );
}

describe('random graphs', () => {
  it(`${SEEDS} of float operators`, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const graph = randomGraph(seed, 'float32', FLOAT_MAKERS);
      const feeds = { x: noise(SHAPE, 2, seed), y: noise(SHAPE, 2, seed + 1) };
      const want = interpret(graph, feeds);
      using session = await InferenceSession.create(modelBytes(graph));
      const got = await session.run(feeds);
      for (const name of session.outputNames)
        assertClose(got[name] as Tensor, want[name], 1e-3, `seed ${seed}: ${name}`);
    }
  }).timeout(60_000);

  it(`${SEEDS} of operators on codes, to the bit`, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const graph = randomGraph(seed, 'uint8', CODE_MAKERS);
      const feeds = { x: codes('uint8', SHAPE, 0, 255, seed), y: codes('uint8', SHAPE, 0, 255, seed + 1) };
      const want = interpret(graph, feeds);
      using session = await InferenceSession.create(modelBytes(graph));
      const got = await session.run(feeds);
      for (const name of session.outputNames) assertClose(got[name] as Tensor, want[name], 0, `seed ${seed}: ${name}`);
    }
  }).timeout(60_000);
});
