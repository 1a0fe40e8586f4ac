/**
 * Every operator that takes part in static quantization, in both forms and with both types of activations: what it becomes,
 * and that onnxruntime, with all its optimizations, and sessions of q8 give the same results.
 */
import assert from 'node:assert/strict';
import type { AttributeInit } from '../../lib/graph/attributes';
import type { Value } from '../../lib/graph/graph';
import { quantize } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, runOrt, runOwn, runSession } from './judges';
import { float, int, ints, NetworkBuilder, randomTensor } from './networks';
import { readGraph } from './run-graph';

interface Case {
  op: string;
  /** Tells cases of one operator apart. */
  what?: string;
  /** Adds the operator behind a quantized convolution [1, 8, 6, 6]; returns what a second one reads. */
  build(net: NetworkBuilder, x: Value): Value;
  /** What is in the integer form in place of the operator: one of these operators. */
  becomes: string;
  opset?: number;
  operators?: 'integer' | 'all';
}

const text = (value: string): AttributeInit[string] => ({ kind: 'string', value });
const int64 = (...values: number[]): Tensor => new Tensor('int64', values);
const scalar = (value: number): Tensor => new Tensor('float32', [value], []);

/** A node on x with constants behind it. */
function onX(
  op: string,
  constants: readonly Tensor[] = [],
  attributes: AttributeInit = {},
  domain = '',
): Case['build'] {
  return (net, x) =>
    net.node(op, 'y', [x, ...constants.map((tensor, i) => net.constant(`c${i}`, tensor))], attributes, domain);
}

/** A node on x and another quantized tensor that nothing else reads. */
function onTwo(op: string, attributes: AttributeInit = {}): Case['build'] {
  return (net, x) => net.node(op, 'y', [x, net.conv('other', net.graph.inputs[0], [8, 4, 1, 1])], attributes);
}

const per8 = (seed: number): Tensor => randomTensor([8], seed);
const window = { kernel_shape: ints(2, 2), strides: ints(2, 2) };
const padding = int64(0, 0, 1, 1, 0, 0, 1, 2);
const flat = (net: NetworkBuilder, x: Value) => net.node('Reshape', 'rows', [x, net.constant('shape', int64(8, 36))]);

const CASES: Case[] = [
  {
    op: 'Conv',
    what: 'grouped',
    becomes: 'QLinearConv',
    build: (net, x) => net.conv('y', x, [8, 2, 3, 3], { group: int(4) }),
  },
  { op: 'MatMul', becomes: 'QLinearMatMul', build: (net, x) => net.node('MatMul', 'y', [x, net.weight('w', [6, 6])]) },
  {
    op: 'MatMul',
    what: 'with a stack of weights',
    becomes: 'QLinearMatMul',
    build: (net, x) => net.node('MatMul', 'y', [x, net.weight('w', [8, 6, 6])]),
  },
  {
    op: 'Gemm',
    what: 'with factors and a shared bias',
    becomes: 'QGemm',
    build(net, x) {
      const bias = net.weight('bias', [36]);
      const [v, w] = ['v', 'w'].map((name) => net.weight(name, [36, 36], 0.2));
      const first = net.node('Gemm', 'first', [flat(net, x), v, bias], { beta: float(0.5) });
      return net.node('Gemm', 'y', [first, w, bias], { alpha: float(1.5), beta: float(2), transB: int(1) });
    },
  },
  { op: 'Add', becomes: 'QLinearAdd', build: onTwo('Add') },
  { op: 'Add', what: 'of a constant', becomes: 'QLinearAdd', build: behindLeaky('Add', randomTensor([8, 1, 1], 5)) },
  { op: 'Sub', becomes: 'QLinearAdd', build: onTwo('Sub') },
  { op: 'Mul', becomes: 'QLinearMul', build: onTwo('Mul') },
  { op: 'Div', what: 'by a number', becomes: 'QLinearMul', build: behindLeaky('Div', scalar(1.7)) },
  { op: 'Div', what: 'by a negative number', becomes: 'QLinearMul', build: behindLeaky('Div', scalar(-0.3)) },
  { op: 'Max', becomes: 'Max', build: onTwo('Max') },
  { op: 'Min', what: 'of a constant', becomes: 'Min', build: onX('Min', [randomTensor([8, 1, 1], 5)]) },
  { op: 'Clip', what: 'behind a fork', becomes: 'Clip', build: forked('Clip', [scalar(-0.5), scalar(0.7)]) },
  { op: 'Relu', what: 'behind a fork', becomes: 'Relu', build: forked('Relu') },
  { op: 'LeakyRelu', becomes: 'QLinearLeakyRelu', build: onX('LeakyRelu') },
  { op: 'PRelu', what: 'with one slope', becomes: 'QLinearLeakyRelu', build: onX('PRelu', [scalar(0.2)]) },
  { op: 'Sigmoid', becomes: 'QLinearSigmoid', build: onX('Sigmoid') },
  { op: 'Softmax', becomes: 'QLinearSoftmax', build: onX('Softmax') },
  { op: 'Tanh', becomes: 'Tanh', build: onX('Tanh') },
  { op: 'HardSwish', becomes: 'HardSwish', build: onX('HardSwish') },
  { op: 'HardSigmoid', becomes: 'HardSigmoid', build: onX('HardSigmoid') },
  { op: 'Elu', becomes: 'Elu', build: onX('Elu') },
  { op: 'Selu', becomes: 'Selu', build: onX('Selu') },
  { op: 'Softplus', becomes: 'Softplus', build: onX('Softplus') },
  { op: 'Mish', becomes: 'Mish', opset: 18, build: onX('Mish') },
  { op: 'Gelu', becomes: 'Gelu', opset: 20, build: onX('Gelu') },
  { op: 'Gelu', what: 'of com.microsoft', becomes: 'Gelu', build: onX('Gelu', [], {}, 'com.microsoft') },
  { op: 'FastGelu', becomes: 'FastGelu', build: onX('FastGelu', [], {}, 'com.microsoft') },
  { op: 'GlobalAveragePool', becomes: 'QLinearGlobalAveragePool', build: onX('GlobalAveragePool') },
  { op: 'AveragePool', becomes: 'QLinearAveragePool', build: onX('AveragePool', [], window) },
  {
    op: 'ReduceMean',
    what: 'over pixels',
    becomes: 'QLinearGlobalAveragePool',
    build: (net, x) => {
      const mean = net.node('ReduceMean', 'y', [x], { axes: ints(2, 3), keepdims: int(0) });
      return net.node('Unsqueeze', 'image', [mean, net.constant('axes', int64(2, 3))]);
    },
  },
  {
    op: 'ReduceMean',
    what: 'over channels of rows',
    becomes: 'QLinearGlobalAveragePool',
    build: (net, x) => net.node('ReduceMean', 'y', [flat(net, x)], { axes: ints(0) }),
  },
  { op: 'MaxPool', becomes: 'MaxPool', build: onX('MaxPool', [], window) },
  { op: 'ReduceMax', becomes: 'ReduceMax', build: onX('ReduceMax', [], { axes: ints(2) }) },
  { op: 'ReduceMin', becomes: 'ReduceMin', build: onX('ReduceMin', [], { axes: ints(3) }) },
  { op: 'GlobalMaxPool', becomes: 'GlobalMaxPool', build: onX('GlobalMaxPool') },
  { op: 'Concat', becomes: 'Concat', build: onTwo('Concat', { axis: int(1) }) },
  {
    op: 'Concat',
    what: 'with an operand that others read',
    becomes: 'QLinearConcat',
    build(net, x) {
      const both = net.node('Concat', 'y', [x, net.conv('other', net.graph.inputs[0], [8, 4, 1, 1])], { axis: int(2) });
      net.output(net.conv('side', x, [2, 8, 1, 1]));
      return both;
    },
  },
  {
    op: 'Where',
    becomes: 'QLinearWhere',
    build(net, x) {
      const condition = net.constant('condition', new Tensor('bool', [1, 0, 0, 1, 1, 0], [6]));
      return net.node('Where', 'y', [condition, x, net.conv('other', net.graph.inputs[0], [8, 4, 1, 1])]);
    },
  },
  { op: 'Split', becomes: 'Split', build: split },
  { op: 'Pad', what: 'with zeros', becomes: 'Pad', build: onX('Pad', [padding]) },
  ...['reflect', 'edge'].map(
    (mode): Case => ({ op: 'Pad', what: mode, becomes: 'Pad', build: onX('Pad', [padding], { mode: text(mode) }) }),
  ),
  { op: 'Pad', what: 'wrap', becomes: 'Pad', opset: 19, build: onX('Pad', [padding], { mode: text('wrap') }) },
  { op: 'Pad', what: 'with a number', becomes: 'Pad', build: onX('Pad', [padding, scalar(0.7)]) },
  { op: 'Pad', what: 'with a number out of range', becomes: 'Pad', build: onX('Pad', [padding, scalar(-5)]) },
  {
    op: 'Pad',
    what: 'with a number, twice',
    becomes: 'Pad',
    build(net, x) {
      const [number, pads] = [net.constant('number', scalar(1.5)), net.constant('pads', padding)];
      const first = net.node('Pad', 'first', [x, pads, number]);
      return net.node('Pad', 'y', [net.node('LeakyRelu', 'leaky', [first]), pads, number]);
    },
  },
  {
    op: 'Pad',
    what: 'with a shared constant',
    becomes: 'Pad',
    build(net, x) {
      const zero = net.constant('zero', scalar(0));
      const pads = net.constant('pads', padding);
      const first = net.node('Pad', 'first', [x, pads, zero]);
      return net.node('Pad', 'y', [net.node('LeakyRelu', 'leaky', [first]), pads, zero]);
    },
  },
  {
    op: 'Resize',
    becomes: 'Resize',
    build: (net, x) => {
      const scales = net.constant('scales', new Tensor('float32', [1, 1, 2, 2]));
      return net.node('Resize', 'y', [x, null, scales], { mode: text('nearest') });
    },
  },
  { op: 'Slice', becomes: 'Slice', build: onX('Slice', [int64(1), int64(5), int64(1)]) },
  { op: 'Transpose', becomes: 'Transpose', build: onX('Transpose', [], { perm: ints(0, 1, 3, 2) }) },
  { op: 'Reshape', becomes: 'Reshape', build: onX('Reshape', [int64(1, 8, 4, 9)]) },
  { op: 'Expand', becomes: 'Expand', build: onX('Expand', [int64(2, 8, 6, 6)]) },
  { op: 'Tile', becomes: 'Tile', build: onX('Tile', [int64(1, 1, 2, 1)]) },
  { op: 'Gather', becomes: 'Gather', build: onX('Gather', [int64(3, 0, 3)], { axis: int(2) }) },
  {
    op: 'GatherElements',
    becomes: 'GatherElements',
    build: onX('GatherElements', [indices([1, 8, 2, 6])], { axis: int(2) }),
  },
  { op: 'GatherND', becomes: 'GatherND', build: onX('GatherND', [new Tensor('int64', [0, 5, 0, 2], [2, 2])]) },
  { op: 'DepthToSpace', becomes: 'DepthToSpace', build: onX('DepthToSpace', [], { blocksize: int(2) }) },
  { op: 'SpaceToDepth', becomes: 'SpaceToDepth', build: onX('SpaceToDepth', [], { blocksize: int(2) }) },
  { op: 'Flatten', becomes: 'Flatten', build: onX('Flatten') },
  {
    op: 'Squeeze',
    becomes: 'Squeeze',
    build: (net, x) => {
      const squeezed = net.node('Squeeze', 'y', [x, net.constant('axes', int64(0))]);
      return net.node('Unsqueeze', 'image', [squeezed, net.constant('axes', int64(0))]);
    },
  },
  {
    op: 'TopK',
    becomes: 'TopK',
    build(net, x) {
      const values = net.graph.newValue('y');
      const inputs = [x, net.constant('k', int64(3))];
      net.graph.addNode({ name: 'y', op: 'TopK', inputs, outputs: [values, net.graph.newValue('indices')] });
      return values;
    },
  },
  ...['ArgMax', 'ArgMin'].map(
    (op): Case => ({
      op,
      becomes: op,
      build(net, x) {
        const index = net.node(op, 'y', [x], { axis: int(1) });
        return net.node('Add', 'sum', [x, net.node('Cast', 'cast', [index], { to: int(1) })]);
      },
    }),
  ),
  {
    op: 'Gather',
    what: 'from a table',
    becomes: 'Gather',
    build(net) {
      const index = net.node('ArgMax', 'index', [net.graph.inputs[0]], { axis: int(3), keepdims: int(0) });
      return net.node('Gather', 'y', [net.weight('table', [6, 40]), index]);
    },
  },
  ...[1, 2, 8].map(
    (group): Case => ({
      op: 'ConvTranspose',
      what: `in ${group} groups`,
      becomes: 'ConvTranspose',
      build: (net, x) =>
        net.node('ConvTranspose', 'y', [x, net.weight('w', [8, 8 / group, 3, 3], 0.3), net.weight('b', [8])], {
          group: int(group),
        }),
    }),
  ),
  ...['LSTM', 'GRU'].map(
    (op): Case => ({
      op,
      becomes: op,
      build(net, x) {
        const gates = op === 'LSTM' ? 4 : 3;
        const sequence = net.node('Reshape', 'sequence', [x, net.constant('shape', int64(6, 2, 24))]);
        const weights = [24, 5].map((size, i) => net.weight(`w${i}`, [2, gates * 5, size], 0.3));
        const inputs = [sequence, ...weights, net.weight('b', [2, 2 * gates * 5])];
        return net.node(op, 'y', inputs, { hidden_size: int(5), direction: text('bidirectional') });
      },
    }),
  ),
  // Those that no CPU runs on codes: pairs around them, when asked for.
  ...(
    [
      ['Div', 'by a tensor', onX('Div', [new Tensor('float32', [1, 2, 3, 4, 5, 6])])],
      ['PRelu', 'with a slope per channel', onX('PRelu', [randomTensor([8, 1, 1], 5)])],
      ['ReduceMean', 'over one of four axes', onX('ReduceMean', [], { axes: ints(3) })],
      ['CumSum', '', onX('CumSum', [new Tensor('int64', [2], [])])],
      ['InstanceNormalization', '', onX('InstanceNormalization', [per8(4), per8(5)])],
      ['LayerNormalization', '', onX('LayerNormalization', [randomTensor([6], 4), randomTensor([6], 5)])],
      ['BatchNormalization', 'behind a pool', batchNormalization],
      ['Resize', 'linear', resizeLinear],
      ['ConvTranspose', 'in two groups', convTranspose(2)],
      ['ConvTranspose', 'depthwise', convTranspose(8)],
    ] as [string, string, Case['build']][]
  ).map(([op, what, build]): Case => ({ op, what: `${what}, operators: all`, build, becomes: op, operators: 'all' })),
];

/** Right behind the convolution it would be folded into the weights. */
function behindLeaky(op: string, constant: Tensor): Case['build'] {
  return (net, x) => onX(op, [constant])(net, net.node('LeakyRelu', 'leaky', [x]));
}

function forked(op: string, constants: readonly Tensor[] = []): Case['build'] {
  return (net, x) => net.node('Add', 'sum', [onX(op, constants)(net, x), x]);
}

function split(net: NetworkBuilder, x: Value): Value {
  const parts = [net.graph.newValue('y0'), net.graph.newValue('y1')];
  const inputs = [x, net.constant('sizes', int64(2, 6))];
  net.graph.addNode({ name: 'y', op: 'Split', inputs, outputs: parts, attributes: { axis: int(1) } });
  return net.node('Concat', 'joined', [parts[1], parts[0]], { axis: int(1) });
}

function indices(dims: number[]): Tensor {
  const size = dims.reduce((a, b) => a * b, 1);
  return new Tensor(
    'int64',
    BigInt64Array.from({ length: size }, (_, i) => BigInt((i * 7) % 6)),
    dims,
  );
}

function batchNormalization(net: NetworkBuilder, x: Value): Value {
  const pooled = net.node('MaxPool', 'pooled', [x], window);
  const variance = new Tensor(
    'float32',
    Float32Array.from(randomTensor([8], 7).data, (v) => 1 + v * v),
  );
  return onX('BatchNormalization', [per8(4), per8(5), per8(6), variance])(net, pooled);
}

function resizeLinear(net: NetworkBuilder, x: Value): Value {
  const scales = net.constant('scales', new Tensor('float32', [1, 1, 2, 1.5]));
  return net.node('Resize', 'y', [x, null, scales], { mode: text('linear') });
}

function convTranspose(group: number): Case['build'] {
  return (net, x) =>
    net.node('ConvTranspose', 'y', [x, net.weight('w', [8, 8 / group, 3, 3], 0.3), net.weight('b', [8])], {
      group: int(group),
      strides: ints(2, 2),
    });
}

/** Convolution, the operator, and a product that wants codes again. */
function network({ build, opset }: Case): NetworkBuilder {
  const net = new NetworkBuilder(opset);
  const x = net.conv('stem', net.input('x', [1, 4, 6, 6]), [8, 4, 1, 1]);
  const y = build(net, x);
  net.output(net.node('Mul', 'out', [y, net.weight('factor', [1])]));
  net.graph.outputs.reverse();
  return net;
}

/** Integer forms that onnxruntime has for uint8 only, or not at all: there floats run between DQ and Q. */
const UINT8_ONLY = new Set(['QLinearSoftmax', 'DepthToSpace']);

function assertWithin(actual: Float32Array, expected: Float32Array, bound: number, who: string): void {
  assert.equal(actual.length, expected.length, who);
  for (let i = 0; i < expected.length; i++) {
    assert.ok(Math.abs(actual[i] - expected[i]) <= bound, `${who}: element ${i} is ${actual[i]}, not ${expected[i]}`);
  }
}

describe('operators in static quantization', () => {
  const calibration = Array.from({ length: 4 }, (_, i) => ({ x: randomTensor([1, 4, 6, 6], 30 + i, 2) }));
  const [feed] = calibration;
  for (const activationType of ['uint8', 'int8'] as const) {
    for (const format of ['qoperator', 'qdq'] as const) {
      describe(`${format}, ${activationType} activations`, () => {
        for (const test of CASES) {
          const { op, what, becomes, operators = 'integer' } = test;
          it(`${op}${what ? ` ${what}` : ''}`, async () => {
            const model = network(test).bytes();
            const options = { mode: 'static', calibration, activationType, format, operators, engine: 'ort' } as const;
            const result = await quantize(model, options);
            assert.ok(result.report.quantizedNodes[op] > 0, JSON.stringify(result.report.floatNodes));
            const graph = readGraph(result.model);
            if (format === 'qoperator' && !(activationType === 'int8' && UINT8_ONLY.has(becomes))) {
              assert.ok(
                [...graph.nodes].some((node) => node.op === becomes),
                [...graph.nodes].map((n) => n.op).join(),
              );
            }
            const float = await runOrt(model, feed);
            // On x64, onnxruntime turns int8 pairs into uint8 ones, whose products saturate: there it judges the pairs as they
            // are. That it opens and runs the model with its optimizations is asserted all the same.
            await runOrt(result.model, feed);
            const isInt8 = activationType === 'int8';
            const unfused = isInt8 && format === 'qdq';
            const judged = await runOrt(
              result.model,
              feed,
              unfused ? { graphOptimizationLevel: 'disabled' } : isInt8 ? {} : EXACT,
            );
            const own = runOwn(result.model, feed);
            const session = await runSession(result.model, feed);
            const scale = result.report.tensors.find(({ name }) => name === 'out')?.scale[0];
            // Codes are equal. Where only weights are codes, float32 sums differ by their order.
            const largest = float.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
            // Values half-way between codes are common where codes are interpolated: rounding errors take either side of
            // them, and onnxruntime truncates.
            const isInterpolated = what?.startsWith('linear');
            const bound = isInterpolated ? 1.01 * scale! : scale ? 1e-3 * scale : 1e-5 * largest;
            assertWithin(session, own, bound, 'session');
            assertWithin(judged, own, bound, 'onnxruntime');
            // Two layers of 8 bits leave 30 dB and more; a wrong scale, axis or zero point less than 10.
            assert.ok(sqnr(float, judged) > 25, `${sqnr(float, judged)} dB`);
          });
        }
      });
    }
  }
});
