/** Models with Q/DQ nodes of their own: into integer operators, or kept with weights as codes. */
import assert from 'node:assert/strict';
import { quantize } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, opCounts, runOrt, runOwn, runSession } from './judges';
import { feedsFor, float, int, ints, NETWORKS, NetworkBuilder, randomTensor } from './networks';
import { readGraph } from './run-graph';

/** As PyTorch exports it: pairs around float weights, biases in float, one node outside. */
function trainedNet() {
  const net = new NetworkBuilder();
  const pair = (
    name: string,
    value: Parameters<typeof net.node>[2][number],
    scale: number[],
    type: 'int8' | 'uint8',
  ) => {
    const perChannel = scale.length > 1;
    const dims = perChannel ? [scale.length] : [];
    const params = [
      net.constant(`${name}_s`, new Tensor('float32', scale, dims)),
      net.constant(
        `${name}_z`,
        new Tensor(
          type,
          scale.map(() => (type === 'uint8' ? 100 : 0)),
          dims,
        ),
      ),
    ];
    const attributes = perChannel ? { axis: int(0) } : {};
    const codes = net.node('QuantizeLinear', `${name}_q`, [value, ...params], attributes);
    return net.node('DequantizeLinear', `${name}_dq`, [codes, ...params], attributes);
  };
  const x = pair('x', net.input('x', [2, 3, 6, 6]), [0.02], 'uint8');
  const w = pair('w', net.weight('w', [4, 3, 3, 3], 0.3), [0.0025, 0.0024, 0.0023, 0.0026], 'int8');
  const conv = net.node('Conv', 'conv', [x, w, net.weight('b', [4], 0.1)], { pads: ints(1, 1, 1, 1) });
  const relu = pair('relu', net.node('Relu', 'act', [conv]), [0.015], 'uint8');
  const pool = net.node('MaxPool', 'pool', [relu], { kernel_shape: ints(2, 2), strides: ints(2, 2) });
  const flat = net.node('Flatten', 'flat', [pair('pool_pair', pool, [0.015], 'uint8')]);
  const fc = pair('fc_w', net.weight('fc_w', [5, 36], 0.2), [0.002], 'int8');
  const y = net.node('Gemm', 'fc', [pair('flat_pair', flat, [0.015], 'uint8'), fc, net.weight('fc_b', [5], 0.1)], {
    transB: int(1),
  });
  const out = pair('y', y, [0.02], 'uint8');
  net.output(net.node('LeakyRelu', 'outside', [out], { alpha: float(0.1) }));
  return { model: net.bytes(), feed: { x: randomTensor([2, 3, 6, 6], 4) } };
}

describe('quantize, mode qat', () => {
  it('makes of a Q/DQ model what the quantizer writes in integer form', async () => {
    for (const net of NETWORKS) {
      const static_ = { mode: 'static', engine: 'ort' } as const;
      const { model: qdq } = await quantize(net.model, { ...static_, calibration: feedsFor(net, 4), format: 'qdq' });
      const { model: direct } = await quantize(net.model, { ...static_, calibration: feedsFor(net, 4) });
      const { model, report } = await quantize(qdq, { mode: 'qat' });
      const [sample] = feedsFor(net, 1, 31);
      assert.deepEqual(opCounts(readGraph(model)), opCounts(readGraph(direct)), net.name);
      assert.deepEqual(runOwn(model, sample), runOwn(direct, sample), net.name);
      assert.deepEqual([report.mode, report.format], ['qat', 'qoperator']);
    }
  });

  it('takes models with float weights behind their pairs', async () => {
    const { model: trained, feed } = trainedNet();
    const reference = await runOrt(trained, feed, { graphOptimizationLevel: 'disabled' });
    const { model, report } = await quantize(trained, { mode: 'qat' });
    assert.deepEqual(opCounts(readGraph(model)), {
      QuantizeLinear: 1,
      QLinearConv: 1,
      // Relu: code 100 means zero, and codes below it exist.
      Clip: 1,
      MaxPool: 1,
      Flatten: 1,
      QGemm: 1,
      DequantizeLinear: 1,
      LeakyRelu: 1,
    });
    assert.deepEqual(report.quantizedNodes, { Conv: 1, Relu: 1, MaxPool: 1, Flatten: 1, Gemm: 1 });
    assert.deepEqual(report.floatNodes, [
      { name: 'outside', op: 'LeakyRelu', reason: 'no integer operator covers it with the Q/DQ nodes around it' },
    ]);
    const scales = Object.fromEntries(report.tensors.map(({ name, kind, scale }) => [name, [kind, scale.length]]));
    assert.deepEqual(scales.x, ['activation', 1]);
    assert.deepEqual(
      Object.values(scales).filter(([kind]) => kind === 'weight'),
      [
        ['weight', 4],
        ['weight', 1],
      ],
    );
    const judged = await runOrt(model, feed, EXACT);
    assert.deepEqual(runOwn(model, feed), judged);
    assert.deepEqual(await runSession(model, feed), judged);
    // One rounding more or less.
    assert.ok(sqnr(reference, judged) > 30, `${sqnr(reference, judged)} dB`);
  });

  it('keeps the pairs on request, with weights as codes', async () => {
    const { model: trained, feed } = trainedNet();
    const { model, report } = await quantize(trained, { mode: 'qat', format: 'qdq' });
    const graph = readGraph(model);
    const counts = opCounts(graph);
    assert.deepEqual([counts.Conv, counts.Gemm, counts.QuantizeLinear], [1, 1, 5]);
    const large = graph.constants().filter(({ constant }) => (constant?.size ?? 0) > 5);
    assert.deepEqual(
      large.map(({ constant }) => constant?.type),
      ['int8', 'int8'],
    );
    assert.deepEqual(report.quantizedNodes, { Conv: 1, Relu: 1, MaxPool: 1, Flatten: 1, Gemm: 1 });
    const unfused = { graphOptimizationLevel: 'disabled' };
    assert.deepEqual(await runOrt(model, feed, unfused), await runOrt(trained, feed, unfused));
  });
});
