/** Models off the main road: float16, int8 activations with uint8 weights, huge biases, tied tables, opsets out of reach. */
import assert from 'node:assert/strict';
import { fromDoubles, toDoubles } from '../../lib/ops/families/values';
import { interpret } from '../../lib/runtime/interpret';
import { InferenceSession } from '../../lib/runtime/session';
import { type QuantizeOptions, quantize } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, opCounts, runOrt, runSession } from './judges';
import { int, ints, NetworkBuilder, randomTensor } from './networks';
import { readGraph } from './run-graph';

/** Codes of a type that cover it. */
function codes(type: 'int8' | 'uint8', dims: readonly number[], seed: number): Tensor {
  const { data } = randomTensor(dims, seed);
  const low = type === 'int8' ? -128 : 0;
  const of = (v: number): number => low + Math.floor(((v + 1) / 2) * 255.99);
  return new Tensor(type, Array.from(data, of), dims);
}

const half = (tensor: Tensor): Tensor => fromDoubles('float16', toDoubles(tensor), tensor.dims);
const toFloats = (tensor: Tensor): Float32Array => Float32Array.from(toDoubles(tensor));

/** The first output, of float16, by onnxruntime. */
async function ortDoubles(
  model: Uint8Array,
  feed: Readonly<Record<string, Tensor>>,
  options = {},
): Promise<Float32Array> {
  const bits = (await runOrt(model, feed, options)) as unknown as Uint16Array;
  return toFloats(new Tensor('float16', new Uint16Array(bits.buffer, bits.byteOffset, bits.length) as never));
}

describe('quantize: unusual models', () => {
  describe('float16', () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [2, 64]);
    x.type = { dtype: 'float16', shape: [2, 64] };
    const weight = net.constant('w', half(randomTensor([64, 32], 1, 0.3)));
    net.output(net.node('Relu', 'y', [net.node('MatMul', 'product', [x, weight])]));
    net.graph.outputs[0].type = { dtype: 'float16' };
    const model = net.bytes();
    const feeds = [1, 2, 3].map((seed) => ({ x: half(randomTensor([2, 64], 10 + seed)) }));
    const modes: [string, QuantizeOptions, string][] = [
      ['static', { mode: 'static', calibration: feeds }, 'QLinearMatMul'],
      ['static, pairs', { mode: 'static', calibration: feeds, format: 'qdq', engine: 'q8' }, 'QuantizeLinear'],
      ['dynamic', { mode: 'dynamic', reduceRange: true }, 'MatMulInteger'],
      ['weightOnly', { mode: 'weightOnly', bits: 8 }, 'MatMulNBits'],
    ];
    for (const [name, options, op] of modes) {
      it(`computes in float32 and keeps the types of its inputs and outputs: ${name}`, async () => {
        const { model: result, report } = await quantize(model, { ...options, verify: true } as QuantizeOptions);
        assert.equal(report.quantizedNodes.MatMul, 1);
        assert.ok(opCounts(readGraph(result))[op] >= 1);
        const session = await InferenceSession.create(result);
        assert.deepEqual([session.inputMetadata[0].type, session.outputMetadata[0].type], ['float16', 'float16']);
        const { y } = await session.run(feeds[0]);
        const float = await ortDoubles(model, feeds[0]);
        assert.ok(sqnr(float, toFloats(y as Tensor)) > 30, 'as the float16 model');
        const judged = await ortDoubles(result, feeds[0], EXACT);
        assert.ok(sqnr(judged, toFloats(y as Tensor)) > 50, 'as onnxruntime has it');
        await session.release();
      });
    }
  });

  describe('int8 activations with uint8 weights', () => {
    it('are refused where they would be made', async () => {
      const net = new NetworkBuilder();
      net.output(net.node('MatMul', 'y', [net.input('x', [2, 4]), net.weight('w', [4, 3])]));
      const options = { mode: 'static', calibration: [], activationType: 'int8', weightType: 'uint8' } as const;
      await assert.rejects(quantize(net.bytes(), options), /weightType/);
    });

    const scale = (net: NetworkBuilder, name: string, value: number) =>
      net.constant(name, new Tensor('float32', [value], []));
    const zero = (net: NetworkBuilder, name: string, type: 'int8' | 'uint8', value: number) =>
      net.constant(name, new Tensor(type, [value], []));

    /** A matrix product and a convolution in integer operators. */
    function integer(): Uint8Array {
      const net = new NetworkBuilder();
      const x = net.input('x', [1, 4, 6, 8]);
      x.type = { dtype: 'int8', shape: [1, 4, 6, 8] };
      const params = (name: string, type: 'int8' | 'uint8', s: number, z: number) => [
        scale(net, `${name}_scale`, s),
        zero(net, `${name}_zero`, type, z),
      ];
      const conv = net.node(
        'QLinearConv',
        'conv',
        [
          x,
          ...params('x', 'int8', 0.02, -7),
          net.constant('wc', codes('uint8', [5, 4, 3, 3], 3)),
          ...params('wc', 'uint8', 0.01, 121),
          ...params('conv', 'int8', 0.09, 11),
        ],
        { pads: ints(1, 1, 1, 1), kernel_shape: ints(3, 3) },
      );
      conv.type = { dtype: 'int8' };
      const product = net.node('QLinearMatMul', 'product', [
        conv,
        ...params('a', 'int8', 0.09, 11),
        net.constant('wm', codes('uint8', [8, 16], 4)),
        ...params('wm', 'uint8', 0.02, 130),
        ...params('y', 'int8', 0.2, -3),
      ]);
      net.output(product);
      product.type = { dtype: 'int8' };
      return net.bytes();
    }

    it('run to the bit as their definitions say', async () => {
      const model = integer();
      const session = await InferenceSession.create(model);
      for (const seed of [1, 2, 3]) {
        const feed = { x: codes('int8', [1, 4, 6, 8], seed) };
        const { product } = await session.run(feed);
        const expected = interpret(readGraph(model), feed).product;
        assert.deepEqual([...(product.data as Int8Array)], [...(expected.data as Int8Array)]);
        assert.ok(new Set(expected.data as Int8Array).size > 50, 'the outputs say something');
      }
      await session.release();
    });

    it('are imported from pairs, and products agree with onnxruntime', async () => {
      const net = new NetworkBuilder();
      const x = net.input('x', [3, 16]);
      const pair = (name: string, value: typeof x, s: number, z: number) => {
        const params = [scale(net, `${name}_scale`, s), zero(net, `${name}_zero`, 'int8', z)];
        const q = net.node('QuantizeLinear', `${name}_q`, [value, ...params]);
        return net.node('DequantizeLinear', `${name}_dq`, [q, ...params]);
      };
      const weight = net.node('DequantizeLinear', 'w_dq', [
        net.constant('w', codes('uint8', [16, 12], 5)),
        scale(net, 'w_scale', 0.01),
        zero(net, 'w_zero', 'uint8', 119),
      ]);
      net.output(pair('y', net.node('MatMul', 'product', [pair('x', x, 0.01, 5), weight]), 0.03, -9));
      const model = net.bytes();
      // No other runtime has the integer operator; sessions of q8 do.
      const { report } = await quantize(model, { mode: 'qat', format: 'qdq' });
      assert.deepEqual(report.floatNodes, [
        { name: 'product', op: 'MatMul', reason: 'no integer operator covers it with the Q/DQ nodes around it' },
      ]);
      const feed = { x: randomTensor([3, 16], 6) };
      const quality = sqnr(
        await runOrt(model, feed, { graphOptimizationLevel: 'disabled' }),
        await runSession(model, feed),
      );
      assert.ok(quality > 50, `${quality} dB`);
    });
  });

  it('guardBias: false leaves scales of weights as they are, and cuts biases that then do not fit', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [2, 8]);
    const bias = new Tensor('float32', [1e6, 1e-6, -2e-6, 0], [4]);
    const inputs = [x, net.weight('w', [8, 4], 1e-4), net.constant('b', bias)];
    net.output(net.node('Gemm', 'y', inputs));
    const calibration = [1, 2].map((seed) => ({ x: randomTensor([2, 8], seed, 1e-3) }));
    const scalesOf = async (guardBias: boolean) => {
      const { model, report } = await quantize(net.bytes(), { mode: 'static', calibration, guardBias });
      const codesOfBias = readGraph(model)
        .constants()
        .find(({ constant }) => constant!.type === 'int32')!.constant!;
      return {
        scale: report.tensors.find(({ name }) => name === 'w')!.scale,
        bias: [...(codesOfBias.data as Int32Array)],
      };
    };
    const [guarded, bare] = [await scalesOf(true), await scalesOf(false)];
    assert.ok(guarded.scale[0] > 100 * bare.scale[0], `${guarded.scale[0]} ${bare.scale[0]}`);
    assert.ok(guarded.bias[0] < 2 ** 31 - 1 && guarded.bias[0] > 2 ** 29);
    assert.equal(bare.bias[0], 2 ** 31 - 1);
    assert.deepEqual(guarded.scale.slice(1), bare.scale.slice(1), 'other channels keep their scales');
  });

  describe('a table whose rows are picked and that is multiplied by', () => {
    const [words, width] = [40, 24];
    const net = new NetworkBuilder();
    const ids = net.input('ids', ['N']);
    ids.type = { dtype: 'int64', shape: ['N'] };
    const table = net.weight('table', [words, width]);
    const picked = net.node('Gather', 'picked', [table, ids]);
    const hidden = net.node('Relu', 'hidden', [
      net.node('MatMul', 'inner', [picked, net.weight('w', [width, width], 0.4)]),
    ]);
    net.output(net.node('Gemm', 'logits', [hidden, table], { transB: int(1) }));
    const model = net.bytes();
    const feeds = [1, 2, 3].map((seed) => ({
      ids: new Tensor(
        'int64',
        BigInt64Array.from({ length: 6 }, (_, i) => BigInt((7 * i + seed * 11) % words)),
        [6],
      ),
    }));
    const cases: [string, QuantizeOptions, number][] = [
      ['static', { mode: 'static', calibration: feeds }, 25],
      ['static, pairs', { mode: 'static', calibration: feeds, format: 'qdq' }, 25],
      ['dynamic', { mode: 'dynamic', reduceRange: true }, 25],
      ['weights of 8 bits', { mode: 'weightOnly', bits: 8, blockSize: 16 }, 35],
    ];
    for (const [name, options, least] of cases) {
      it(name, async () => {
        const { model: quantized, report } = await quantize(model, options);
        assert.equal(report.quantizedNodes.Gather, 1);
        assert.equal(report.quantizedNodes.Gemm, 1);
        for (const feed of feeds) {
          const own = await runSession(quantized, feed);
          const [quality, agreement] = [
            sqnr(await runSession(model, feed), own),
            sqnr(await runOrt(quantized, feed, EXACT), own),
          ];
          assert.ok(quality > least, `${quality} dB`);
          assert.ok(agreement > 50, `${agreement} dB beside onnxruntime`);
        }
        assert.ok(
          !readGraph(quantized)
            .constants()
            .some(({ constant }) => constant!.type === 'float32' && constant!.size === words * width),
        );
      });
    }
  });

  it('opsets out of reach are refused before calibration, with the way out', async () => {
    const untouched = {
      [Symbol.iterator](): Iterator<never> {
        throw new Error('calibration was touched');
      },
    };
    for (const opset of [5, 99]) {
      const net = new NetworkBuilder(opset);
      net.output(net.node('MatMul', 'y', [net.input('x', [2, 4]), net.weight('w', [4, 3])]));
      for (const options of [{ mode: 'static', calibration: untouched }, { mode: 'dynamic' }] as QuantizeOptions[]) {
        await assert.rejects(quantize(net.bytes(), options), (error: Error & { code: string; hint: string }) => {
          assert.equal(error.code, 'ERR_Q8_UNSUPPORTED_OP');
          assert.match(error.message, new RegExp(`Expected opset .* received "opset ${opset}"`));
          assert.match(error.hint, /export it again/);
          return true;
        });
      }
    }
  });
});
