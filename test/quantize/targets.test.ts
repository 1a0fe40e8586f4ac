/** Presets by target: their models open in onnxruntime-node and agree with q8, have what the target wants, and options win. */
import assert from 'node:assert/strict';
import type { Node } from '../../lib/graph/graph';
import {
  explain,
  type QuantizeReport,
  quantize,
  renderHtml,
  type StaticQuantizeOptions,
  type TargetName,
} from '../../lib';
import { sqnr } from '../../lib/report/metrics';
import { EXACT, runOrt, runSession } from './judges';
import { feedsFor, NETWORKS, NetworkBuilder, type TestNetwork } from './networks';
import { readGraph } from './run-graph';

type Options = Omit<Partial<StaticQuantizeOptions>, 'mode'>;

const [RESIDUAL, EXCITE] = NETWORKS;

/** Quantizes, and judges the result by onnxruntime as it comes, which saturates on CPUs without VNNI. */
async function quantizeFor(net: TestNetwork, options: Options) {
  const { model, report } = await quantize(net.model, {
    mode: 'static',
    calibration: feedsFor(net, 8),
    engine: 'ort',
    ...options,
  });
  const nodes = [...readGraph(model).nodes];
  const weights = report.tensors.filter(({ kind }) => kind === 'weight');
  const activations = report.tensors.filter(({ kind }) => kind === 'activation');
  return { model, report, nodes, weights, activations };
}

/** @param runs options of onnxruntime: EXACT for what is made for other CPUs than this one may be. */
async function judge(net: TestNetwork, model: Uint8Array, runs = {}): Promise<void> {
  const [sample] = feedsFor(net, 1);
  const [float, judged, own] = await Promise.all([
    runOrt(net.model, sample),
    runOrt(model, sample, runs),
    runSession(model, sample),
  ]);
  assert.ok(sqnr(judged, own) > 20, `q8 to onnxruntime ${sqnr(judged, own)} dB`);
  assert.ok(sqnr(float, judged) > 15, `${sqnr(float, judged)} dB`);
}

function setting({ settings }: Pick<QuantizeReport, 'settings'>, name: string) {
  const found = settings!.find((setting) => setting.name === name);
  return found && [found.value, found.from];
}

/** All weight codes of a model. */
function codesOf(nodes: readonly Node[]): number[] {
  const constants = nodes.flatMap(({ op, inputs }) =>
    op.startsWith('QLinearConv') ? [inputs[3]!.constant!] : op === 'QGemm' ? [inputs[3]!.constant!] : [],
  );
  assert.ok(constants.length > 0);
  return constants.flatMap(({ data }) => Array.from(data as Int8Array));
}

describe('quantize: targets', () => {
  const types: [target: TargetName, activationType: string, weightType: string, format: string][] = [
    ['vnni', 'uint8', 'int8', 'qoperator'],
    ['avx2', 'uint8', 'uint8', 'qoperator'],
    ['arm', 'int8', 'int8', 'qoperator'],
    ['generic', 'uint8', 'int8', 'qoperator'],
    ['tensorrt', 'int8', 'int8', 'qdq'],
    ['nnapi', 'uint8', 'uint8', 'qdq'],
  ];
  for (const [target, activationType, weightType, format] of types) {
    it(`${target}: ${activationType} x ${weightType}, ${format}`, async () => {
      for (const net of [RESIDUAL, EXCITE]) {
        const { model, report, activations } = await quantizeFor(net, { target });
        assert.deepEqual(
          [report.activationType, report.weightType, report.format],
          [activationType, weightType, format],
        );
        assert.ok(activations.every(({ type }) => type === activationType));
        await judge(net, model, target === 'vnni' ? EXACT : {});
      }
    });
  }

  it('says who chose every setting, and why', async () => {
    const { report } = await quantizeFor(RESIDUAL, { target: 'tensorrt', minRealRange: 1e-4 });
    assert.deepEqual(setting(report, 'target'), ['tensorrt', 'user']);
    assert.deepEqual(setting(report, 'weightPairs'), [true, 'target']);
    assert.deepEqual(setting(report, 'minRealRange'), [1e-4, 'user']);
    assert.deepEqual(setting(report, 'guardBias'), [true, 'default']);
    for (const { name, reason } of report.settings!) assert.ok(reason.length > 4, name);
    const html = renderHtml({ title: 'x', quantization: report });
    for (const { name, reason } of report.settings!) {
      assert.ok(html.includes(`<b>${name}</b>`), name);
      assert.ok(html.includes(reason.replaceAll("'", '&#39;')), reason);
    }
    assert.equal(html.match(/<b>format<\/b>/g)?.length, 1);
    const untargeted = await explain(RESIDUAL.model, { mode: 'static' });
    assert.ok(untargeted.settings!.every(({ from }) => from === 'default'));
  });

  it('generic: sums of two products fit int16', async () => {
    const { nodes } = await quantizeFor(RESIDUAL, { target: 'generic' });
    assert.ok(codesOf(nodes).every((code) => Math.abs(code) <= 64));
    const full = await quantizeFor(RESIDUAL, { target: 'vnni' });
    assert.ok(codesOf(full.nodes).some((code) => Math.abs(code) > 64));
  });

  it('avx2 and generic: onnxruntime has the same codes whether it may saturate or not', async () => {
    const [sample] = feedsFor(RESIDUAL, 1);
    for (const target of ['avx2', 'generic'] as const) {
      const { model } = await quantizeFor(RESIDUAL, { target });
      assert.deepEqual(await runOrt(model, sample), await runOrt(model, sample, EXACT), target);
    }
  });

  it('tensorrt: zero points of 0, float biases, float weights behind pairs', async () => {
    const { nodes, report } = await quantizeFor(RESIDUAL, { target: 'tensorrt' });
    assert.ok(report.tensors.every(({ zeroPoint }) => zeroPoint.every((zero) => zero === 0)));
    const convolutions = nodes.filter(({ op }) => op === 'Conv');
    assert.ok(convolutions.length > 0);
    for (const node of convolutions) {
      const pair = node.requiredInput(1).producer!;
      assert.deepEqual([pair.op, pair.requiredInput(0).producer?.op], ['DequantizeLinear', 'QuantizeLinear']);
      if (node.input(2)) assert.equal(node.input(2)!.constant?.type, 'float32');
    }
  });

  it('nnapi: one scale for a weight, Sigmoid of scale 1/256', async () => {
    const { weights, activations, nodes } = await quantizeFor(EXCITE, { target: 'nnapi' });
    assert.ok(weights.length > 0 && weights.every(({ scale }) => scale.length === 1));
    const sigmoids = nodes.filter(({ op }) => op === 'Sigmoid').map(({ output }) => output.consumers[0]);
    assert.ok(sigmoids.length > 0);
    for (const { op, inputs } of sigmoids) {
      assert.equal(op, 'QuantizeLinear');
      assert.equal((inputs[1]!.constant!.data as Float32Array)[0], 1 / 256);
    }
    assert.ok(activations.length > 0);
  });

  it('lets options win, and leaves out what no longer fits them', async () => {
    const cases: [Options, Record<string, unknown>][] = [
      [
        { target: 'generic', reduceRange: false },
        { reduceRange: [false, 'user'], weightType: ['int8', 'target'] },
      ],
      [
        { target: 'tensorrt', format: 'qoperator' },
        { format: ['qoperator', 'user'], quantizeBias: [true, 'default'], weightPairs: [false, 'default'] },
      ],
      [
        { target: 'nnapi', activationType: 'int8' },
        { weightType: ['int8', 'default'], nnapiSigmoid: [false, 'default'], weightSymmetric: undefined },
      ],
      [
        { target: 'nnapi', weightType: 'int8', perChannel: true },
        { perChannel: [true, 'user'], weightSymmetric: undefined, shareScales: ['always', 'target'] },
      ],
      [
        { target: 'avx2', activationType: 'int8' },
        { activationType: ['int8', 'user'], weightType: ['int8', 'default'], reduceRange: [true, 'target'] },
      ],
      [
        { target: 'avx2', weightType: 'int8' },
        { weightType: ['int8', 'user'], reduceRange: [true, 'target'] },
      ],
      [
        { target: 'generic', format: 'qdq', weightType: 'int4', blockSize: 16 },
        { reduceRange: [false, 'default'], blockSize: [16, 'user'] },
      ],
    ];
    for (const [options, expected] of cases) {
      const { report } = await quantizeFor(RESIDUAL, { ...options, verify: true });
      for (const [name, value] of Object.entries(expected)) assert.deepEqual(setting(report, name), value, name);
    }
  });

  it('has CPUs in mode dynamic', async () => {
    const [sample] = feedsFor(RESIDUAL, 1);
    for (const target of ['vnni', 'avx2', 'arm', 'generic'] as const) {
      const { model, report } = await quantize(RESIDUAL.model, { mode: 'dynamic', target, verify: true });
      assert.equal(report.weightType, target === 'avx2' ? 'uint8' : 'int8');
      assert.deepEqual(setting(report, 'reduceRange'), [target === 'generic', 'target']);
      assert.ok(sqnr(await runOrt(RESIDUAL.model, sample), await runOrt(model, sample)) > 15, target);
    }
    const { report } = await quantize(RESIDUAL.model, { mode: 'dynamic', target: 'avx2', weightType: 'int8' });
    assert.deepEqual(setting(report, 'weightType'), ['int8', 'user']);
  });

  it('refuses what it does not know', async () => {
    const calibration = feedsFor(RESIDUAL, 1);
    const wrong: [object, RegExp][] = [
      [
        { mode: 'static', calibration, target: 'vnnl' },
        /Expected one of .*"vnni".* option target .*"vnnl"[\s\S]*did you mean "vnni"/,
      ],
      [{ mode: 'static', calibration, target: 3 }, /option target/],
      [{ mode: 'dynamic', target: 'tensorrt' }, /Expected "vnni", "avx2", "arm" or "generic"[\s\S]*mode "static"/],
      [{ mode: 'weightOnly', target: 'vnni' }, /option of mode "weightOnly"/],
    ];
    for (const [options, message] of wrong) {
      await assert.rejects(quantize(RESIDUAL.model, options as never), (error: Error & { hint?: string }) => {
        assert.match(`${error.message}\n${error.hint ?? ''}`, message);
        return true;
      });
    }
  });

  describe('qnn', () => {
    const builder = new NetworkBuilder(21);
    const x = builder.input('x', [2, 3, 8, 8]);
    const conv = builder.conv('conv', x, [4, 3, 1, 1]);
    const squashed = builder.node('Tanh', 'squashed', [conv]);
    const product = builder.node('MatMul', 'product', [squashed, builder.weight('w', [8, 8], 0.4)]);
    const sum = builder.node('Add', 'sum', [product, builder.node('Sigmoid', 'gate', [conv])]);
    builder.output(builder.conv('last', sum, [2, 4, 1, 1]));
    const net = { name: 'mixed', model: builder.bytes(), inputDims: [2, 3, 8, 8] };
    const scaleOf = ({ tensors }: QuantizeReport, wanted: string) => {
      const { type, scale, zeroPoint } = tensors.find(({ name }) => name === wanted)!;
      return [type, scale, zeroPoint];
    };

    it('puts uint8 pairs around every node', async () => {
      const { model, nodes, report } = await quantizeFor(net, { target: 'qnn' });
      assert.deepEqual(report.floatNodes, []);
      assert.ok(nodes.every(({ op }) => !op.startsWith('QLinear')));
      assert.deepEqual(setting(report, 'minRealRange'), [1e-4, 'target']);
      assert.deepEqual(setting(report, 'weightType'), ['uint8', 'target']);
      await judge(net, model);
    });

    it('fixes the scales of Sigmoid and Tanh with 16 bits, and has one for matrices', async () => {
      const { model, report } = await quantizeFor(net, { target: 'qnn', activationType: 'uint16', perChannel: true });
      assert.deepEqual(scaleOf(report, 'gate'), ['uint16', [2 ** -16], [0]]);
      assert.deepEqual(scaleOf(report, 'squashed'), ['uint16', [2 ** -15], [2 ** 15]]);
      assert.equal(scaleOf(report, 'w')[1].length, 1);
      assert.equal(scaleOf(report, 'conv_w')[1].length, 4);
      assert.equal(scaleOf(report, 'w')[0], 'uint8');
      await judge(net, model);
      const signed = await quantizeFor(net, { target: 'qnn', activationType: 'int16', weightType: 'int8' });
      assert.deepEqual(scaleOf(signed.report, 'squashed'), ['int16', [2 ** -15], [0]]);
    });

    it('converts what a node reads to the type that it writes', async () => {
      const overrides = { sum: { type: 'uint16' } } as const;
      const { model, report } = await quantizeFor(net, { target: 'qnn', overrides });
      const of = (name: string) => report.tensors.filter((tensor) => tensor.name === name);
      assert.deepEqual(
        of('product').map(({ type, receivers }) => [type, receivers]),
        [
          ['uint8', undefined],
          ['uint16', ['sum']],
        ],
      );
      assert.deepEqual(
        of('sum').map(({ type, receivers }) => [type, receivers]),
        [
          ['uint16', undefined],
          ['uint8', ['last']],
        ],
      );
      assert.equal(of('gate').length, 2);
      await judge(net, model);
    });
  });
});
