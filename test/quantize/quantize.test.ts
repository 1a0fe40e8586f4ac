/** quantize() from end to end, judged by onnxruntime-node and by the TypeScript definitions of the operators. */
import assert from 'node:assert/strict';
import { fuseQdq } from '../../lib/passes/fuse-qdq';
import { type QuantizeOptions, type QuantizeProgress, quantize, type StaticQuantizeOptions } from '../../lib/quantize';
import { randomSamples } from '../../lib/readers/samples';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, opCounts, runOrt, runOwn, runSession } from './judges';
import { feedsFor, NETWORKS, randomTensor, type TestNetwork } from './networks';
import { readGraph, runGraph } from './run-graph';

const TYPES = [
  { activationType: 'uint8', weightType: 'int8' },
  { activationType: 'uint8', weightType: 'uint8' },
  { activationType: 'int8', weightType: 'int8' },
] as const;

function quantizeNet(net: TestNetwork, options: Partial<StaticQuantizeOptions> = {}) {
  return quantize(net.model, { mode: 'static', calibration: feedsFor(net, 16), engine: 'ort', ...options });
}

/** Batches of one, two and three. */
function* raggedFeeds({ inputDims }: TestNetwork): Generator<{ x: Tensor<'float32'> }> {
  for (let i = 0; i < 9; i++) yield { x: randomTensor([1 + (i % 3), ...inputDims.slice(1)], 100 + i, 2) };
}

describe('quantize', () => {
  for (const net of NETWORKS) {
    const [sample] = feedsFor(net, 1, 7);
    for (const types of TYPES) {
      for (const perChannel of [true, false]) {
        for (const activationSymmetric of [false, true]) {
          const settings = { ...types, perChannel, activationSymmetric };
          const { activationType, weightType } = types;
          it(`${net.name}: ${activationType} x ${weightType}, ${perChannel ? 'per channel' : 'per tensor'}${
            activationSymmetric ? ', symmetric' : ''
          }`, async () => {
            const float = await runOrt(net.model, sample);
            // The setting is for uint8 activations; with int8 ones nothing saturates, and onnxruntime fails on it.
            const exact = activationType === 'uint8' ? EXACT : {};
            const results: Float32Array[] = [];
            for (const format of ['qoperator', 'qdq'] as const) {
              const { model } = await quantizeNet(net, { ...settings, format });
              // Onnxruntime turns int8 Q/DQ pairs into uint8 ones, whose products saturate: there it is judge only unfused,
              // in float.
              const unfused = format === 'qdq' && activationType === 'int8';
              const judged = await runOrt(model, sample, unfused ? { graphOptimizationLevel: 'disabled' } : exact);
              const own = runOwn(model, sample);
              // 8 bits per layer leave about 30 to 50 dB at the end of these nets; a wrong zero point or axis less than 10.
              assert.ok(sqnr(float, judged) > 25, `${format}: onnxruntime has ${sqnr(float, judged)} dB`);
              assert.ok(sqnr(float, own) > 25, `${format}: q8 has ${sqnr(float, own)} dB`);
              if (process.arch === 'x64' && !unfused) assert.deepEqual(own, judged, format);
              else assert.ok(sqnr(judged, own) > 35, `${format}: q8 to onnxruntime ${sqnr(judged, own)} dB`);
              results.push(own);
            }
            // Both forms differ by last bits only.
            assert.ok(sqnr(results[1], results[0]) > 25, `forms: ${sqnr(results[1], results[0])} dB`);
          });
        }
      }
    }
  }

  it('leaves no float compute operator in a network that it covers', async () => {
    const { model, report } = await quantizeNet(NETWORKS[0]);
    assert.deepEqual(opCounts(readGraph(model)), {
      QuantizeLinear: 1,
      QLinearConv: 3,
      MaxPool: 1,
      QLinearAdd: 1,
      QLinearConcat: 1,
      QLinearGlobalAveragePool: 1,
      Flatten: 1,
      QGemm: 1,
      DequantizeLinear: 1,
    });
    assert.deepEqual(report.quantizedNodes, {
      Conv: 3,
      Relu: 2,
      MaxPool: 1,
      Add: 1,
      Clip: 1,
      Concat: 1,
      GlobalAveragePool: 1,
      Flatten: 1,
      Gemm: 1,
    });
    assert.deepEqual(report.floatNodes, []);
  });

  it('keeps what moves codes on the scale of its input', async () => {
    const { report } = await quantizeNet(NETWORKS[0], { format: 'qdq' });
    const scale = (name: string) => report.tensors.find((t) => t.name === name && t.kind === 'activation')?.scale;
    assert.deepEqual(scale('pool'), scale('stem_relu'));
    assert.deepEqual(scale('flat'), scale('mean'));
    assert.notDeepEqual(scale('both'), scale('sum_relu'));
  });

  it('clamps where a symmetric range does not imply Relu', async () => {
    const net = NETWORKS[0];
    const { model } = await quantizeNet(net, { activationType: 'int8', activationSymmetric: true });
    const counts = opCounts(readGraph(model));
    assert.equal(counts.Clip, 3);
    assert.equal(counts.QLinearConv, 3);
  });

  it('keeps names and types of inputs and outputs', async () => {
    for (const format of ['qoperator', 'qdq'] as const) {
      const { model } = await quantizeNet(NETWORKS[0], { format });
      const graph = readGraph(model);
      assert.deepEqual(
        graph.inputs.map(({ name, type }) => [name, type]),
        [['x', { dtype: 'float32', shape: ['N', 3, 8, 8] }]],
      );
      assert.deepEqual(
        graph.outputs.map(({ name, type }) => [name, type?.dtype]),
        [['logits', 'float32']],
      );
    }
  });

  it('takes alpha and beta of a Gemm into its constants', async () => {
    const { model } = await quantizeNet(NETWORKS[0], { format: 'qdq' });
    const gemm = [...readGraph(model).nodes].find(({ op }) => op === 'Gemm')!;
    assert.equal(gemm.attributes.has('alpha'), false);
    assert.equal(gemm.attributes.has('beta'), false);
  });

  it('keeps weights within 7 bits with reduceRange', async () => {
    const { model } = await quantizeNet(NETWORKS[0], { reduceRange: true });
    const weights = readGraph(model)
      .constants()
      .flatMap(({ constant }) =>
        constant?.type === 'int8' && constant.dims.length > 1 ? [constant.data as Int8Array] : [],
      );
    assert.equal(weights.length, 4);
    for (const codes of weights) assert.equal(Math.max(...codes.map(Math.abs)), 64);
  });

  it('gives the same bytes for the same input', async () => {
    const [a, b] = await Promise.all([quantizeNet(NETWORKS[1]), quantizeNet(NETWORKS[1])]);
    assert.deepEqual(a.model, b.model);
    assert.deepEqual(a.report, b.report);
  });

  it('writes a report that is plain JSON', async () => {
    const { report } = await quantizeNet(NETWORKS[2], { exclude: 'scores' });
    assert.deepEqual(JSON.parse(JSON.stringify(report)), report);
    assert.deepEqual(
      report.floatNodes.find(({ name }) => name === 'scores'),
      {
        name: 'scores',
        op: 'MatMul',
        reason: 'excluded by "scores"',
      },
    );
    assert.equal(report.calibration?.samples, 16);
    assert.ok(report.bytes.quantized > 0 && report.bytes.float > 0);
  });

  it('takes data as a function of the inputs, which may know its length once it has begun', async () => {
    const net = NETWORKS[1];
    const phases: string[] = [];
    const { report } = await quantizeNet(net, {
      calibration: randomSamples(2),
      onProgress: ({ phase, done, total }) => phase === 'calibrate' && phases.push(`${done}/${total}`),
    });
    assert.equal(report.calibration?.samples, 2);
    assert.deepEqual(phases, ['0/2', '1/2', '2/2']);
    const nothing = (() => undefined) as unknown as () => [];
    await assert.rejects(quantizeNet(net, { calibration: nothing }), /an iterable of feeds/);
  });

  it('checks all feeds of an array before anything runs', async () => {
    const net = NETWORKS[1];
    const feeds = [...feedsFor(net, 2), { y: feedsFor(net, 1)[0].x }];
    const phases: string[] = [];
    const options = { calibration: feeds, onProgress: ({ phase }: QuantizeProgress) => phases.push(phase) };
    await assert.rejects(quantizeNet(net, options as object), /calibration feed 2/);
    assert.ok(!phases.includes('calibrate'), phases.join());
  });

  it('reads calibration from a generator, once, and reports progress', async () => {
    const net = NETWORKS[1];
    const phases: string[] = [];
    let given = 0;
    async function* samples() {
      for (const feed of feedsFor(net, 3)) {
        given++;
        yield feed;
      }
    }
    const { report } = await quantizeNet(net, {
      calibration: samples(),
      onProgress: ({ phase, done, total }) => phases.push(`${phase} ${done}/${total}`),
    });
    assert.equal(given, 3);
    assert.equal(report.calibration?.samples, 3);
    assert.deepEqual(phases, [
      'prepare 0/1',
      'prepare 1/1',
      'calibrate 0/undefined',
      'calibrate 1/undefined',
      'calibrate 2/undefined',
      'calibrate 3/undefined',
      'quantize 0/1',
      'quantize 1/1',
    ]);
  });

  for (const calibrationMethod of ['movingAverage', 'percentile', 'entropy', 'mse', 'distribution'] as const) {
    it(`calibrates by ${calibrationMethod}: samples of any shape, in one pass`, async () => {
      let narrower = false;
      for (const net of NETWORKS) {
        // The other two have one batch size.
        const calibration = () => (net.name === 'residual' ? raggedFeeds(net) : feedsFor(net, 16));
        const { model, report } = await quantizeNet(net, { calibrationMethod, calibration: calibration() });
        const { report: widest } = await quantizeNet(net, { calibration: calibration() });
        assert.equal(report.calibration?.method, calibrationMethod);
        const ranges = (tensors: typeof report.tensors) =>
          tensors.flatMap(({ kind, range }) => (kind === 'activation' && range ? [range] : []));
        const [found, full] = [ranges(report.tensors), ranges(widest.tensors)];
        for (const [i, [min, max]] of found.entries()) assert.ok(min >= full[i][0] && max <= full[i][1]);
        narrower ||= found.some(([min, max], i) => max - min < full[i][1] - full[i][0]);
        const [sample] = feedsFor(net, 1, 7);
        // KL clips hard on the few uniform numbers here.
        const least = calibrationMethod === 'entropy' ? 5 : 15;
        const quality = sqnr(await runOrt(net.model, sample), runOwn(model, sample));
        assert.ok(quality > least, `${net.name}: ${quality} dB`);
      }
      assert.ok(narrower);
    });
  }

  for (const calibrationMethod of ['percentile', 'entropy', 'mse', 'distribution'] as const) {
    it(`reads samples twice for exact bins: ${calibrationMethod}`, async () => {
      const [net] = NETWORKS;
      const progress: number[] = [];
      const exact = await quantizeNet(net, {
        calibrationMethod,
        exactBins: true,
        onProgress: ({ phase, done, total }) => {
          if (phase !== 'calibrate') return;
          assert.equal(total, 32);
          progress.push(done);
        },
      });
      assert.deepEqual(
        progress,
        Array.from({ length: 33 }, (_, i) => i),
      );
      assert.equal(exact.report.calibration?.samples, 16);
      assert.equal(exact.ranges?.exactBins, true);
      // Narrow and wide bins tell nearly the same.
      const plain = await quantizeNet(net, { calibrationMethod, bins: 65536 });
      for (const [name, [min, max]] of Object.entries(plain.ranges!.tensors)) {
        const [low, high] = exact.ranges!.tensors[name];
        const near = (a: number, b: number) =>
          Math.abs(a - b) <= (calibrationMethod === 'percentile' ? 0.02 : 0.4) * (max - min);
        assert.ok(
          calibrationMethod === 'entropy' || (near(low, min) && near(high, max)),
          `${name}: ${low} to ${high}, ${min} to ${max}`,
        );
      }
    });
  }

  it('tells when samples for exact bins are others the second time, and refuses those that are spent', async () => {
    const [net] = NETWORKS;
    let reads = 0;
    const calibration = () =>
      feedsFor(net, 2).map(({ x }) => ({
        x: new Tensor(
          'float32',
          x.data.map((v) => v * (1 + reads)),
          x.dims,
        ),
      }));
    const growing = {
      *[Symbol.iterator]() {
        yield* calibration();
        reads++;
      },
    };
    const options = { mode: 'static', engine: 'q8', calibrationMethod: 'mse', exactBins: true } as const;
    await assert.rejects(quantize(net.model, { ...options, calibration: growing }), /same samples in the second pass/);
    await assert.rejects(
      quantize(net.model, { ...options, calibration: feedsFor(net, 2).values() }),
      /read more than once/,
    );
  });

  it('stops when its signal aborts', async () => {
    const net = NETWORKS[0];
    const controller = new AbortController();
    const work = quantizeNet(net, {
      signal: controller.signal,
      calibration: (function* () {
        yield* feedsFor(net, 2);
        controller.abort(new Error('enough'));
        yield* feedsFor(net, 1000);
      })(),
    });
    await assert.rejects(work, /^Error: enough$/);
  });

  it('is undone by no pass: the runtime form of a Q/DQ model equals its integer form', async () => {
    const net = NETWORKS[0];
    const [sample] = feedsFor(net, 1, 9);
    const qdq = readGraph((await quantizeNet(net, { format: 'qdq' })).model);
    fuseQdq(qdq);
    const direct = runOwn((await quantizeNet(net)).model, sample);
    assert.deepEqual(Object.values(runGraph(qdq, sample))[0].data, direct);
  });

  it('runs in sessions of q8 as its operators define it, in both forms', async () => {
    for (const net of NETWORKS) {
      const [sample] = feedsFor(net, 1, 21);
      const { model } = await quantizeNet(net);
      const { model: qdq } = await quantizeNet(net, { format: 'qdq' });
      const [direct, fused] = await Promise.all([runSession(model, sample), runSession(qdq, sample)]);
      assert.deepEqual(direct, runOwn(model, sample), net.name);
      assert.deepEqual(fused, direct, net.name);
    }
  });

  it('finds the same ranges with either engine', async () => {
    for (const net of NETWORKS) {
      const { report: ours } = await quantizeNet(net, { engine: 'q8' });
      const { report: theirs } = await quantizeNet(net, { engine: 'ort' });
      assert.equal(ours.calibration?.engine, 'q8');
      assert.equal(ours.tensors.length, theirs.tensors.length);
      ours.tensors.forEach(({ name, scale }, i) => {
        const [a, b] = [scale[0], theirs.tensors[i].scale[0]];
        assert.ok(Math.abs(a - b) <= 1e-5 * b, `${net.name} ${name}: ${a} and ${b}`);
      });
    }
  });

  describe('refuses', () => {
    const net = NETWORKS[0];
    const calibration = feedsFor(net, 1);
    const good = { mode: 'static', calibration, engine: 'ort' } as const;
    const cases: [what: string, options: unknown, message: RegExp][] = [
      ['no options', undefined, /Expected an object for the options of quantize\(\)/],
      ['an unknown option', { ...good, perChanel: true }, /Unknown option "perChanel".*Did you mean "perChannel"\?/],
      [
        'a mode that does not exist',
        { ...good, mode: 'dinamic' },
        /Expected one of "static", "dynamic", "weightOnly", "qat" for the option mode but received "dinamic".*did you mean "dynamic"/,
      ],
      [
        'an option of another mode',
        { mode: 'dynamic', calibration },
        /Expected an option of mode "dynamic" for the options of quantize\(\) but received "calibration"/,
      ],
      ['a selection in mode qat', { mode: 'qat', include: 'stem' }, /option of mode "qat".*"include"/],
      ['a float model in mode qat', { mode: 'qat' }, /Expected QuantizeLinear and DequantizeLinear nodes/],
      ['a missing mode', { calibration }, /for the option mode but received undefined/],
      [
        'a wrong type',
        { ...good, activationType: 'uint9' },
        /option activationType but received "uint9".*did you mean "uint8"/,
      ],
      ['a wrong format', { ...good, format: 'qop' }, /Expected one of "qoperator", "qdq" for the option format/],
      ['int8 activations with uint8 weights', { ...good, activationType: 'int8', weightType: 'uint8' }, /weightType/],
      ['asymmetric weights per channel', { ...good, weightType: 'uint8', weightSymmetric: false }, /perChannel: false/],
      ['a string for a flag', { ...good, perChannel: 'yes' }, /Expected true or false for the option perChannel/],
      ['a negative thread count', { ...good, threads: -1 }, /option threads/],
      [
        'an unknown method',
        { ...good, calibrationMethod: 'percentil' },
        /calibrationMethod.*did you mean "percentile"/,
      ],
      ['a percentile of 101', { ...good, calibrationMethod: 'percentile', percentile: 101 }, /option percentile/],
      ['exact bins of extremes', { ...good, exactBins: true }, /option exactBins has no effect/],
      ['half a bin', { ...good, calibrationMethod: 'mse', bins: 2048.5 }, /option bins/],
      ['a momentum of 0', { ...good, calibrationMethod: 'movingAverage', momentum: 0 }, /option momentum/],
      [
        'the number of another method',
        { ...good, calibrationMethod: 'mse', percentile: 99 },
        /Expected "percentile" for the option calibrationMethod but received "mse".*percentile has no effect/,
      ],
      ['a zero minRealRange', { ...good, minRealRange: 0 }, /option minRealRange/],
      ['no calibration', { mode: 'static' }, /option calibration but received undefined/],
      ['empty calibration', { ...good, calibration: [] }, /at least one feed/],
      [
        'a feed that is no object',
        { ...good, calibration: [5] },
        /Expected an object with one Tensor per model input for calibration feed 0/,
      ],
      [
        'a feed without an input',
        { ...good, calibration: [{}] },
        /input "x" of calibration feed 0 but received undefined/,
      ],
      [
        'a feed with another input',
        { ...good, calibration: [{ y: calibration[0].x }] },
        /name of a model input for calibration feed 0 but received "y"/,
      ],
      ['a bare array', { ...good, calibration: [{ x: new Float32Array(384) }] }, /Expected a Tensor for input "x"/],
      [
        'a wrong shape',
        { ...good, calibration: [{ x: calibration[0].x.reshape([2, 3, 64]) }] },
        /Expected shape \[N, 3, 8, 8\]/,
      ],
      [
        'a wrong element type',
        { ...good, calibration: [{ x: { type: 'int32', data: new Int32Array(384), dims: [2, 3, 8, 8] } }] },
        /Expected type float32 for input "x" of calibration feed 0 but received "type int32"/,
      ],
      [
        'NaN in a feed',
        {
          ...good,
          calibration: [
            calibration[0],
            { x: { type: 'float32', data: new Float32Array(192).fill(Number.NaN), dims: [1, 3, 8, 8] } },
          ],
        },
        /finite numbers for input "x" of calibration feed 1/,
      ],
    ];
    for (const [what, options, message] of cases) {
      it(what, async () => {
        await assert.rejects(quantize(net.model, options as QuantizeOptions), (error: Error & { code?: string }) => {
          assert.equal(error.name, 'Q8Error');
          assert.match(error.code ?? '', /^ERR_Q8_(INVALID_ARGUMENT|SHAPE_MISMATCH)$/);
          assert.match(error.message, message);
          return true;
        });
      });
    }

    it('wrong options before it asks for the first sample', async () => {
      const untouched = {
        [Symbol.iterator](): Iterator<never> {
          throw new Error('calibration was touched');
        },
      };
      const options = { mode: 'static', calibration: untouched, exclude: 'nothing' } as QuantizeOptions;
      await assert.rejects(quantize(net.model, options), /option exclude/);
    });

    it('bytes that are no model', async () => {
      await assert.rejects(quantize(Uint8Array.of(1, 2, 3), good), { code: 'ERR_Q8_BAD_MODEL' });
      await assert.rejects(quantize(5 as unknown as string, good), /Expected a path or a Uint8Array for the model/);
    });
  });
});
