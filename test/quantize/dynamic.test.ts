/** Dynamic quantization: every model opens in onnxruntime-node, which agrees with q8, and stays close to float. */
import assert from 'node:assert/strict';
import { quantize } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, type Feed, opCounts, runOrt, runOwn, runSession } from './judges';
import { feedsFor, float, int, ints, NETWORKS, NetworkBuilder, randomTensor } from './networks';
import { readGraph } from './run-graph';

interface Case {
  name: string;
  model: Uint8Array;
  feed: Feed;
}

/** Every spelling of Gemm: both transposed, factors, a bias of each kind. */
function gemmNet(bias: 'vector' | 'matrix' | 'computed' | 'none'): Case {
  const net = new NetworkBuilder();
  const x = net.input('x', [12, 4]);
  const biases = {
    vector: () => net.weight('b', [5]),
    matrix: () => net.weight('b', [4, 1]),
    computed: () => net.node('Sigmoid', 'b', [net.input('c', [4, 5])]),
    none: () => null,
  };
  const y = net.node('Gemm', 'y', [x, net.weight('w', [5, 12]), biases[bias]()], {
    transA: int(1),
    transB: int(1),
    alpha: float(0.25),
    beta: float(-2),
  });
  net.output(y);
  const c: Feed = bias === 'computed' ? { c: randomTensor([4, 5], 3) } : {};
  return { name: `Gemm, bias ${bias}`, model: net.bytes(), feed: { x: randomTensor([12, 4], 5), ...c } };
}

function convNet(
  name: string,
  dims: number[],
  weight: number[],
  attributes: Record<string, ReturnType<typeof ints>>,
): Case {
  const net = new NetworkBuilder();
  net.output(net.conv('y', net.input('x', dims), weight, attributes));
  return { name, model: net.bytes(), feed: { x: randomTensor(dims, 11, 3) } };
}

function stackedNet(): Case {
  const net = new NetworkBuilder();
  const x = net.input('x', [3, 4, 8]);
  net.output(net.node('MatMul', 'y', [x, net.weight('w', [3, 8, 5])]));
  return { name: 'MatMul with a stack of weights', model: net.bytes(), feed: { x: randomTensor([3, 4, 8], 6) } };
}

/** A table that is looked up and, transposed, multiplied by: tied embeddings. */
function tiedNet(): Case {
  const net = new NetworkBuilder();
  const ids = net.input('ids', [2, 3]);
  ids.type = { dtype: 'int64', shape: [2, 3] };
  const table = net.weight('table', [20, 8]);
  const words = net.node('Gather', 'words', [table, ids]);
  const once = net.node('MatMul', 'once', [words, net.weight('w', [8, 8])]);
  const flat = net.node('Reshape', 'flat', [once, net.constant('shape', new Tensor('int64', [6, 8]))]);
  net.output(net.node('Gemm', 'logits', [flat, table], { transB: int(1) }));
  return {
    name: 'tied embeddings',
    model: net.bytes(),
    feed: { ids: new Tensor('int64', [0, 19, 7, -1, 3, 3], [2, 3]) },
  };
}

const CASES: Case[] = [
  ...NETWORKS.map((net) => ({ name: net.name, model: net.model, feed: feedsFor(net, 1, 7)[0] })),
  ...(['vector', 'matrix', 'computed', 'none'] as const).map(gemmNet),
  convNet('Conv, depthwise', [2, 6, 9, 7], [6, 1, 3, 3], {
    group: int(6),
    pads: ints(1, 0, 2, 1),
    strides: ints(2, 1),
  }),
  convNet('Conv, grouped and dilated', [1, 6, 9, 9], [4, 3, 3, 3], { group: int(2), dilations: ints(2, 1) }),
  convNet('Conv, one dimension', [2, 3, 17], [5, 3, 4], { pads: ints(3, 0) }),
  stackedNet(),
  tiedNet(),
];

const FORMS = [
  { weightType: 'int8', perChannel: true },
  { weightType: 'int8', perChannel: false },
  { weightType: 'uint8', perChannel: true },
  { weightType: 'uint8', perChannel: false, weightSymmetric: false },
  { weightType: 'int8', perChannel: true, reduceRange: true },
] as const;

describe('quantize, mode dynamic', () => {
  for (const { name, model: float, feed } of CASES) {
    for (const form of FORMS) {
      it(`${name}: ${Object.entries(form).join(' ')}`, async () => {
        const { model, report } = await quantize(float, { mode: 'dynamic', ...form });
        const exact = await runOrt(float, feed);
        const judged = await runOrt(model, feed, EXACT);
        const own = runOwn(model, feed);
        assert.ok(sqnr(exact, judged) > 25, `onnxruntime has ${sqnr(exact, judged)} dB`);
        assert.ok(sqnr(exact, own) > 25, `q8 has ${sqnr(exact, own)} dB`);
        // The integers are the same; float sums and products differ by last bits, which may move an activation by a code.
        assert.ok(sqnr(judged, own) > 45, `q8 to onnxruntime: ${sqnr(judged, own)} dB`);
        const session = await runSession(model, feed);
        assert.ok(sqnr(own, session) > 45, `session to definitions: ${sqnr(own, session)} dB`);
        assert.deepEqual(
          report.floatNodes.filter(({ reason }) => reason !== 'its weight is not constant'),
          [],
        );
      });
    }
  }

  it('writes standard operators, with one quantizer for all readers of an activation', async () => {
    const { model, report } = await quantize(NETWORKS[2].model, { mode: 'dynamic' });
    const counts = opCounts(readGraph(model));
    assert.equal(counts.MatMulInteger, 4);
    // The input, read by three products, and the rows.
    assert.equal(counts.DynamicQuantizeLinear, 2);
    assert.deepEqual(report.quantizedNodes, { MatMul: 3, Gemm: 1 });
    assert.deepEqual(
      report.floatNodes.map(({ name, reason }) => [name, reason]),
      [
        ['scores', 'its weight is not constant'],
        ['mixed', 'its weight is not constant'],
      ],
    );
    assert.equal(report.calibration, undefined);
    assert.equal(report.activationType, 'uint8');
  });

  it('keeps one copy of a weight that several nodes read', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [4, 8]);
    const w = net.weight('w', [8, 8]);
    net.output(net.node('MatMul', 'z', [net.node('MatMul', 'y', [x, w]), w]));
    const { model, report } = await quantize(net.bytes(), { mode: 'dynamic' });
    assert.equal(report.tensors.length, 1);
    const weights = readGraph(model)
      .constants()
      .filter(({ constant }) => constant?.size === 64);
    assert.equal(weights.length, 1);
  });

  it('makes weights a quarter as large', async () => {
    const net = new NetworkBuilder();
    net.output(net.node('MatMul', 'y', [net.input('x', [1, 256]), net.weight('w', [256, 256])]));
    const { report } = await quantize(net.bytes(), { mode: 'dynamic' });
    assert.ok(report.bytes.quantized < 0.27 * report.bytes.float, JSON.stringify(report.bytes));
  });

  it('quantizes what is asked for, and says why not the rest', async () => {
    const { report } = await quantize(NETWORKS[0].model, {
      mode: 'dynamic',
      include: { opType: 'Conv' },
      exclude: 'stem',
    });
    assert.deepEqual(report.quantizedNodes, { Conv: 2 });
    assert.deepEqual(
      report.floatNodes.map(({ name, reason }) => [name, reason]),
      [
        ['stem', 'excluded by "stem"'],
        ['logits', 'not included'],
      ],
    );
  });

  for (const perChannel of [true, false]) {
    it(`LSTM in both directions, perChannel ${perChannel}`, async () => {
      const [t, b, i, h] = [6, 2, 8, 16];
      const net = new NetworkBuilder();
      const weights = [
        net.weight('w', [2, 4 * h, i], 0.4),
        net.weight('r', [2, 4 * h, h], 0.3),
        net.weight('b', [2, 8 * h], 0.2),
      ];
      const y = net.node('LSTM', 'y', [net.input('x', [t, b, i]), ...weights], {
        hidden_size: int(h),
        direction: { kind: 'string', value: 'bidirectional' },
      });
      net.output(y);
      const feed = { x: randomTensor([t, b, i], 4, 2) };
      const { model, report } = await quantize(net.bytes(), { mode: 'dynamic', perChannel, verify: true });
      assert.deepEqual(report.quantizedNodes, { LSTM: 1 });
      assert.equal(opCounts(readGraph(model)).DynamicQuantizeLSTM, 1);
      const exact = await runOrt(net.bytes(), feed);
      const judged = await runOrt(model, feed, EXACT);
      const own = runOwn(model, feed);
      assert.ok(sqnr(exact, own) > 25, `${sqnr(exact, own)} dB`);
      assert.ok(sqnr(judged, own) > 40, `q8 to onnxruntime: ${sqnr(judged, own)} dB`);
    });
  }

  it('EmbedLayerNormalization', async () => {
    const net = new NetworkBuilder();
    const ids = net.input('ids', [2, 5]);
    ids.type = { dtype: 'int32', shape: [2, 5] };
    const tables = [net.weight('words', [30, 16]), net.weight('positions', [8, 16])];
    const inputs = [ids, null, ...tables, null, net.weight('gamma', [16]), net.weight('beta', [16])];
    net.output(net.node('EmbedLayerNormalization', 'y', inputs, { epsilon: float(1e-6) }, 'com.microsoft'));
    const feed = { ids: new Tensor('int32', [0, 29, 7, 3, 3, 1, 2, 3, 4, 5], [2, 5]) };
    const { model, report } = await quantize(net.bytes(), { mode: 'dynamic', verify: true });
    assert.deepEqual(report.quantizedNodes, { EmbedLayerNormalization: 1 });
    const judged = await runOrt(model, feed);
    const exact = runOwn(net.bytes(), feed);
    assert.ok(sqnr(exact, judged) > 25, `${sqnr(exact, judged)} dB`);
    assert.ok(sqnr(judged, runOwn(model, feed)) > 80);
    assert.ok(sqnr(judged, await runSession(model, feed)) > 80);
  });
});
