/** Algorithms on networks that have the illness which they cure: the float model stays the same, int8 gets better. */
import assert from 'node:assert/strict';
import { compareModels, InferenceSession, quantize, type StaticQuantizeOptions, Tensor } from '../../../lib';
import { outputSqnr } from '../../../lib/report/analysis';
import { runOrt } from '../judges';
import { readGraph } from '../run-graph';
import { NetworkBuilder, randomTensor } from '../networks';

type Feed = { x: Tensor<'float32'> };

/** Two convolutions whose inner channels have weights of very different size: one scale per tensor fits none. */
function unbalanced(): Uint8Array {
  const net = new NetworkBuilder();
  const x = net.input('x', [1, 4, 8, 8]);
  const first = randomTensor([16, 4, 3, 3], 5, 0.3);
  const second = randomTensor([8, 16, 1, 1], 6, 0.3);
  const gain = (channel: number) => 4 ** ((channel % 5) - 2);
  const w1 = new Tensor(
    'float32',
    first.data.map((w, i) => w * gain(Math.floor(i / 36))),
    first.dims,
  );
  const w2 = new Tensor(
    'float32',
    second.data.map((w, i) => w / gain(i % 16)),
    second.dims,
  );
  const b1 = new Tensor(
    'float32',
    randomTensor([16], 7, 0.1).data.map((b, i) => b * gain(i)),
    [16],
  );
  const inner = net.node('Relu', 'relu', [
    net.node('Conv', 'first', [x, net.constant('w1', w1), net.constant('b1', b1)]),
  ]);
  const pooled = net.node('MaxPool', 'pool', [inner], { kernel_shape: { kind: 'ints', value: [2, 2] } });
  net.output(net.node('Conv', 'second', [pooled, net.constant('w2', w2), net.weight('b2', [8], 0.1)]));
  return net.bytes();
}

/** LayerNormalization with one channel of outliers, read by two products, as in attention. */
function outliers(): Uint8Array {
  const net = new NetworkBuilder();
  const x = net.input('x', [1, 12, 16]);
  const gamma = new Tensor(
    'float32',
    Float32Array.from({ length: 16 }, (_, i) => (i === 3 ? 40 : 1)),
  );
  const normalized = net.node('LayerNormalization', 'norm', [
    x,
    net.constant('gamma', gamma),
    net.weight('beta', [16], 0.1),
  ]);
  const weights = ['q', 'k'].map((name, i) => {
    const w = randomTensor([16, 16], 20 + i, 0.4);
    return net.constant(
      `${name}_w`,
      new Tensor(
        'float32',
        w.data.map((v, at) => (Math.floor(at / 16) === 3 ? v / 40 : v)),
        w.dims,
      ),
    );
  });
  const [q, k] = weights.map((w, i) => net.node('MatMul', ['q', 'k'][i], [normalized, w]));
  net.output(net.node('Add', 'sum', [q, k]));
  return net.bytes();
}

const imagesFor = (count: number, seed: number): Feed[] =>
  Array.from({ length: count }, (_, i) => ({ x: randomTensor([1, 4, 8, 8], seed + i, 2) }));
const rowsFor = (count: number, seed: number): Feed[] =>
  Array.from({ length: count }, (_, i) => ({ x: randomTensor([1, 12, 16], seed + i, 2) }));

/** SQNR of the outputs on samples that were not used for calibration, and what the report says. */
async function measure(model: Uint8Array, feeds: (count: number, seed: number) => Feed[], options: object) {
  const calibration = feeds(8, 100);
  const settings = { mode: 'static', engine: 'q8', calibration, ...options } as StaticQuantizeOptions;
  const { model: quantized, report, ranges } = await quantize(model, settings);
  const test = feeds(4, 900);
  return { quantized, report, ranges, sqnr: outputSqnr(await compareModels(model, quantized, test)), test };
}

describe('algorithms', () => {
  it('equalize: one scale per tensor suits all channels', async () => {
    const model = unbalanced();
    const plain = await measure(model, imagesFor, { perChannel: false });
    const better = await measure(model, imagesFor, { perChannel: false, algorithms: 'equalize' });
    assert.ok(better.sqnr > plain.sqnr + 10, `${plain.sqnr} -> ${better.sqnr}`);
    assert.deepEqual(better.report.algorithms, [{ name: 'equalize', nodes: ['first', 'second'] }]);
    // Ranges of other activations would be wrong for the next call.
    assert.equal(better.ranges, undefined);
    const [feed] = better.test;
    const own = await (await InferenceSession.create(better.quantized)).run(feed);
    const ort = await runOrt(better.quantized, feed, { extra: { session: { x64quantprecision: '1' } } });
    assert.deepEqual(Object.values(own)[0].data, ort);
  });

  it('smoothQuant: outliers go into the weights, through the normalization', async () => {
    const model = outliers();
    const plain = await measure(model, rowsFor, {});
    const better = await measure(model, rowsFor, { algorithms: ['smoothQuant'] });
    assert.ok(better.sqnr > plain.sqnr + 8, `${plain.sqnr} -> ${better.sqnr}`);
    assert.deepEqual(better.report.algorithms, [{ name: 'smoothQuant', nodes: ['q', 'k'] }]);
  });

  it('clipWeights: the largest weight does not set the step of all', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [1, 12, 16]);
    const w = randomTensor([16, 512], 3, 0.2);
    w.data[77] = 0.36;
    net.output(net.node('MatMul', 'product', [x, net.constant('w', w)]));
    const options = { perChannel: false, format: 'qdq', weightType: 'int4', analyze: true };
    const plain = await measure(net.bytes(), rowsFor, options);
    const better = await measure(net.bytes(), rowsFor, { ...options, algorithms: 'clipWeights' });
    assert.ok(better.sqnr > plain.sqnr + 1, `${plain.sqnr} -> ${better.sqnr}`);
    const range = (of: typeof plain) => of.report.tensors.find(({ name }) => name === 'w')!.range![1];
    assert.ok(range(better) < 0.3 && range(plain) > 0.35);
    assert.ok(better.ranges);
  });

  it('roundWeights: outputs of every kind of layer keep more of what they were', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [1, 4, 8, 8]);
    const image = net.node('Relu', 'image', [
      net.conv('conv', x, [16, 4, 3, 3], { pads: { kind: 'ints', value: [1, 1, 1, 1] } }),
    ]);
    const grouped = net.conv('grouped', image, [16, 4, 3, 3], { group: { kind: 'int', value: 4 } });
    const depthwise = net.node('Relu', 'deep', [
      net.conv('depthwise', grouped, [16, 1, 3, 3], {
        group: { kind: 'int', value: 16 },
        strides: { kind: 'ints', value: [2, 2] },
      }),
    ]);
    const flat = net.node('Flatten', 'flat', [depthwise]);
    const gemm = net.node('Gemm', 'gemm', [flat, net.weight('g', [24, 64], 0.2), net.weight('g_b', [24], 0.1)], {
      transB: { kind: 'int', value: 1 },
    });
    net.output(net.node('MatMul', 'product', [gemm, net.weight('w', [24, 12], 0.3)]));
    const model = net.bytes();
    // Neighbours are alike, as in pictures.
    const pictures = (count: number, seed: number): Feed[] =>
      imagesFor(count, seed).map(({ x: { data } }) => ({
        x: new Tensor(
          'float32',
          data.map((_, i) => data[i & ~27] + 0.2 * data[i]),
          [1, 4, 8, 8],
        ),
      }));
    for (const [weightType, gain] of [
      ['int4', 3],
      ['uint4', 3],
      // Here what is cut off outside of the calibrated ranges is most of the error.
      ['int8', 0],
    ] as const) {
      // Activations of 16 bits leave weights alone to blame.
      const options = { format: 'qdq', weightType, activationType: 'uint16', calibration: pictures(32, 100) };
      const plain = await measure(model, pictures, options);
      const better = await measure(model, pictures, { ...options, algorithms: 'roundWeights' });
      assert.ok(better.sqnr > plain.sqnr + gain, `${weightType}: ${plain.sqnr} -> ${better.sqnr}`);
      assert.deepEqual(better.report.algorithms, [
        { name: 'roundWeights', nodes: ['conv', 'grouped', 'depthwise', 'gemm', 'product'] },
      ]);
      await runOrt(better.quantized, better.test[0]);
    }
  });

  it('roundWeights moves errors of the mean into biases, which there are none of or belong to an Add', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [1, 12, 16]);
    const shifted = net.node('Add', 'shifted', [x, net.constant('five', new Tensor('float32', [5], []))]);
    const product = net.node('MatMul', 'product', [shifted, net.weight('w', [16, 20], 0.2)]);
    const sum = net.node('Add', 'sum', [product, net.weight('b', [20], 0.1)]);
    const flat = net.node('Reshape', 'flat', [sum, net.constant('shape', new Tensor('int64', [12, 20]))]);
    net.output(net.node('Gemm', 'gemm', [flat, net.weight('g', [20, 8], 0.2)]));
    const options = { format: 'qdq', weightType: 'int4', activationType: 'uint16', analyze: true };
    const plain = await measure(net.bytes(), rowsFor, options);
    const better = await measure(net.bytes(), rowsFor, { ...options, algorithms: ['roundWeights'] });
    assert.ok(better.sqnr > plain.sqnr + 4, `${plain.sqnr} -> ${better.sqnr}`);
    assert.deepEqual(better.report.algorithms, [{ name: 'roundWeights', nodes: ['product', 'gemm'] }]);
    const gemm = [...readGraph(better.quantized).nodes].find(({ name }) => name === 'gemm')!;
    assert.ok(gemm.input(2), 'a bias');
  });

  it('roundWeights keeps scales, within reduced ranges too', async () => {
    const net = new NetworkBuilder();
    net.output(net.node('MatMul', 'product', [net.input('x', [1, 12, 16]), net.weight('w', [16, 32])]));
    const scaleOf = ({ report }: { report: { tensors: { name: string; scale: number[] }[] } }) =>
      report.tensors.find(({ name }) => name === 'w')!.scale;
    for (const options of [
      {},
      { reduceRange: true },
      { perChannel: false },
      { perChannel: false, weightType: 'uint8' },
    ]) {
      const plain = await measure(net.bytes(), rowsFor, options);
      const better = await measure(net.bytes(), rowsFor, { ...options, algorithms: 'roundWeights' });
      assert.deepEqual(scaleOf(better), scaleOf(plain));
      assert.ok(better.sqnr > plain.sqnr - 1, `${JSON.stringify(options)}: ${plain.sqnr} -> ${better.sqnr}`);
      if (!('reduceRange' in options)) continue;
      const codes = readGraph(better.quantized)
        .constants()
        .find(({ constant }) => constant?.type === 'int8' && constant.size === 512)!;
      assert.ok((codes.constant!.data as Int8Array).every((code) => Math.abs(code) <= 64));
    }
  });

  it('correctBias: channels keep their mean', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [1, 4, 8, 8]);
    const grouped = net.node('Relu', 'relu', [
      net.conv('grouped', x, [8, 2, 1, 1], { group: { kind: 'int', value: 2 } }),
    ]);
    const last = net.node('Conv', 'last', [grouped, net.weight('last_w', [6, 8, 1, 1], 0.5)]);
    const flat = net.node('GlobalAveragePool', 'mean', [last]);
    net.output(flat);
    const model = net.bytes();
    // Positive means, coarse weights: what makes channels drift.
    const feeds = (count: number, seed: number): Feed[] =>
      imagesFor(count, seed).map(({ x: { data, dims } }) => ({
        x: new Tensor(
          'float32',
          data.map((v) => v + 3),
          dims,
        ),
      }));
    const options = { format: 'qdq', weightType: 'int4' };
    const plain = await measure(model, feeds, options);
    const better = await measure(model, feeds, { ...options, algorithms: 'correctBias' });
    assert.ok(better.sqnr > plain.sqnr + 6, `${plain.sqnr} -> ${better.sqnr}`);
    assert.deepEqual(better.report.algorithms, [{ name: 'correctBias', nodes: ['grouped', 'last'] }]);
  });

  it('correctBias knows Gemm and MatMul with an Add behind', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [1, 16]);
    const factors = { alpha: { kind: 'float', value: 2 }, beta: { kind: 'float', value: 0.5 } } as const;
    const gemm = net.node(
      'Gemm',
      'gemm',
      [x, net.weight('gemm_w', [16, 32], 0.3), net.weight('gemm_b', [32], 0.2)],
      factors,
    );
    const product = net.node('MatMul', 'product', [gemm, net.weight('product_w', [32, 4], 0.3)]);
    net.output(net.node('Add', 'sum', [product, net.weight('sum_b', [4], 0.2)]));
    const feeds = (count: number, seed: number): Feed[] =>
      Array.from({ length: count }, (_, i) => ({
        x: new Tensor(
          'float32',
          randomTensor([1, 16], seed + i, 0.3).data.map((v) => v + 2),
          [1, 16],
        ),
      }));
    const options = { format: 'qdq', weightType: 'int4' };
    const plain = await measure(net.bytes(), feeds, options);
    const better = await measure(net.bytes(), feeds, { ...options, algorithms: 'correctBias' });
    assert.ok(better.sqnr > plain.sqnr + 6, `${plain.sqnr} -> ${better.sqnr}`);
    assert.deepEqual(better.report.algorithms, [{ name: 'correctBias', nodes: ['gemm', 'product'] }]);
  });
});

describe('the option accuracy', () => {
  const options = { perChannel: false } as const;

  it('puts the fewest of the worst layers back into float', async () => {
    const model = unbalanced();
    const plain = await measure(model, imagesFor, options);
    const wanted = plain.sqnr + 2;
    const { report, sqnr } = await measure(model, imagesFor, { ...options, accuracy: { minSqnr: wanted } });
    const { accuracy, floatNodes } = report;
    assert.ok(accuracy?.reached && accuracy.before < wanted && accuracy.after >= wanted);
    assert.ok(sqnr > plain.sqnr + 1);
    assert.equal(accuracy.reverted.length, 1, accuracy.reverted.join());
    const reverted = floatNodes.find(({ name }) => name === accuracy.reverted[0]);
    assert.match(reverted!.reason, /put back into float/);
    assert.ok(report.quantizedNodes.Conv === 1);
  });

  it('takes a measure of the user, and leaves alone what is good enough', async () => {
    const seen: number[] = [];
    const evaluate = async (session: InferenceSession): Promise<number> => {
      const results = await session.run(imagesFor(1, 900)[0]);
      seen.push((Object.values(results)[0].data as Float32Array)[0]);
      return 0.9;
    };
    const { report } = await measure(unbalanced(), imagesFor, { ...options, accuracy: { evaluate } });
    assert.deepEqual(report.accuracy, {
      metric: 'evaluate',
      wanted: 0.9 - 0.01 * 0.9,
      before: 0.9,
      after: 0.9,
      reached: true,
      reverted: [],
      attempts: 1,
    });
    assert.equal(seen.length, 2);
    assert.notEqual(seen[0], seen[1]);
  });

  it('warns when nothing helps', async () => {
    let calls = 0;
    const { report } = await measure(unbalanced(), imagesFor, {
      ...options,
      accuracy: { evaluate: () => (calls++ === 0 ? 1 : 0) },
    });
    assert.equal(report.accuracy!.reached, false);
    assert.ok(report.warnings.some((warning) => /out of reach/.test(warning)));
    assert.equal(report.quantizedNodes.Conv, undefined);
  });
});

describe('options of algorithms', () => {
  const calibration = imagesFor(1, 1);
  const refuse = (options: object, pattern: RegExp) =>
    assert.rejects(
      quantize(unbalanced(), { mode: 'static', calibration, ...options } as StaticQuantizeOptions),
      pattern,
    );

  it('are checked before any work', async () => {
    await refuse({ algorithms: ['equalise'] }, /did you mean "equalize"/);
    await refuse({ smoothQuantAlpha: 0.4 }, /"smoothQuant" for the option algorithms/);
    await refuse({ algorithms: 'smoothQuant', smoothQuantAlpha: 2 }, /from 0 to 1/);
    await refuse({ accuracy: {} }, /one of minSqnr and evaluate/);
    await refuse({ accuracy: { minSqnr: 20, maxDrop: 0.1 } }, /maxDrop/);
    await refuse({ accuracy: { min: 1 } }, /Unknown option "min"/);
    await refuse({ analyze: { latencey: true } }, /Did you mean "latency"/);
    await refuse({ analyze: true, calibration: calibration.values() }, /read more than once/);
    await refuse({ algorithms: 'equalize', ranges: { tensors: {} } }, /no ranges/);
  });

  it('analyze puts errors and latency into the report', async () => {
    const { report } = await quantize(unbalanced(), {
      mode: 'static',
      calibration,
      algorithms: 'equalize',
      analyze: { latency: true },
    });
    assert.equal(report.analysis?.samples, 1);
    assert.ok(report.analysis!.latency!.other > 0);
    assert.ok(outputSqnr(report.analysis!) > 20);
  });
});
