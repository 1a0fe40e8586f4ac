/**
 * Operators that ONNX Runtime's Python quantizer covers and the networks of compat.test.ts have not: the same parameters and
 * codes bit by bit, the same operators, and models of the tool that run here as they do there.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { nodesOf } from '../../lib/graph/bodies';
import { InferenceSession } from '../../lib/index';
import { quantize, type QuantizeOptions, type StaticQuantizeOptions } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { assertSame, constantsOf, type Digests } from './digests';
import { EXACT, opCounts, runOrt, runSession } from './judges';
import { randomTensor } from './networks';
import { readGraph } from './run-graph';

interface Net {
  model: string;
  ranges: Record<string, [number, number]>;
  static: [Record<string, unknown> & { format: string }, Digests, Record<string, number>][];
}

interface DynamicNet {
  model: string;
  dynamic: [Record<string, unknown>, Digests, Record<string, number>][];
}

const FIXTURE: {
  encoder: DynamicNet;
  bodies: DynamicNet;
  shapes: Net;
  residual: Net;
  corners: Net;
  int8: Record<'model' | 'x' | 'logits', string>;
} = JSON.parse(
  gunzipSync(fs.readFileSync(path.join(__dirname, '../fixtures/ort-quantizer/operators.json.gz'))).toString(),
);

/** Where a Relu is part of a range, the tool names it after what the Relu reads, q8 after its output. */
const RENAMED: Record<string, string> = {
  stem: 'stem_relu',
  inner0: 'inner0_relu',
  inner1: 'inner1_relu',
  inner2: 'inner2_relu',
  sum0: 'block0',
  sum1: 'block1',
  sum2: 'block2',
};

const bytesOf = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));
const floatsOf = (base64: string): Float32Array => new Float32Array(bytesOf(base64).buffer);

/** How many nodes there are of each operator, be it on floats or on codes, and how many of them are integer operators. */
function integerForms(counts: Record<string, number>) {
  const all: Record<string, number> = {};
  let integer = 0;
  for (const [spelled, count] of Object.entries(counts)) {
    const op = spelled.replace('com.microsoft:', '');
    const real = op.replace(/^Q(Linear|(?=Gemm))/, '');
    if (['QuantizeLinear', 'DequantizeLinear', 'Relu'].includes(op)) continue;
    all[real] = (all[real] ?? 0) + count;
    if (real !== op) integer += count;
  }
  return { all, integer };
}

describe("operators of ONNX Runtime's quantizer", () => {
  for (const name of ['shapes', 'residual', 'corners'] as const) {
    const { model: float, ranges, static: cases } = FIXTURE[name];
    for (const [settings, digests, counts] of cases) {
      it(`${name}: ${Object.values(settings).join(', ')}`, async () => {
        const options = { mode: 'static', compat: 'onnxruntime', ranges, ...settings } as StaticQuantizeOptions;
        const { model } = await quantize(bytesOf(float), options);
        assertSame(constantsOf(model), digests, settings.format === 'qdq', RENAMED);
        // In its integer form the tool leaves more in float, and it drops what ranges make of a Relu.
        const [own, theirs] = [integerForms(opCounts(readGraph(model))), integerForms(counts)];
        assert.deepEqual(own.all, theirs.all);
        assert.ok(own.integer >= theirs.integer, `${own.integer} integer operators, ${theirs.integer} there`);
        const sample = { x: randomTensor([2, 3, 8, 8], 3) };
        // Onnxruntime does not run what its tool makes of a constant in front of a product, with zero points per channel.
        const runs =
          name !== 'corners' || options.format !== 'qdq' || options.weightType !== 'uint8' || !options.perChannel;
        if (runs) await runOrt(model, sample);
        await runSession(model, sample);
      });
    }
  }

  const { model: encoder, dynamic } = FIXTURE.encoder;
  for (const [settings, digests, counts] of dynamic) {
    it(`dynamic, EmbedLayerNormalization, Attention and LSTM: ${Object.values(settings).join(', ')}`, async () => {
      const options = { mode: 'dynamic', compat: 'onnxruntime', ...settings } as QuantizeOptions;
      const { model } = await quantize(bytesOf(encoder), options);
      assertSame(constantsOf(model), digests, true, {});
      const spelled = Object.entries(counts).map(([op, count]) => [op.replace('com.microsoft:', ''), count]);
      assert.deepEqual(opCounts(readGraph(model)), Object.fromEntries(spelled));
      const sample = {
        ids: new Tensor('int32', [1, 2, 3, 4, 5, 19, 0, 7, 7, 2, 11, 1], [2, 6]),
        segments: new Tensor('int32', [0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1], [2, 6]),
        steps: randomTensor([6, 2, 16], 5),
      };
      const quality = sqnr(await runOrt(model, sample, EXACT), await runSession(model, sample));
      assert.ok(quality > 60, `${quality} dB`);
    });
  }

  for (const [settings, digests, counts] of FIXTURE.bodies.dynamic) {
    it(`dynamic, bodies of If: ${Object.values(settings).join(', ')}`, async () => {
      const options = { mode: 'dynamic', compat: 'onnxruntime', ...settings } as QuantizeOptions;
      const { model } = await quantize(bytesOf(FIXTURE.bodies.model), options);
      assertSame(constantsOf(model), digests, true, {});
      const own: Record<string, number> = {};
      for (const { op } of nodesOf(readGraph(model))) own[op] = (own[op] ?? 0) + 1;
      assert.deepEqual(own, counts);
    });
  }

  it('compat leaves bodies alone unless told otherwise, as the tool does', async () => {
    const { report } = await quantize(bytesOf(FIXTURE.bodies.model), { mode: 'dynamic', compat: 'onnxruntime' });
    assert.equal(report.quantizedNodes.MatMul, 2);
  });

  it('an int8 residual network of the tool runs here to the bit, all on codes', async () => {
    const { model, x, logits } = FIXTURE.int8;
    const session = await InferenceSession.create(bytesOf(model));
    const results = await session.run({ x: new Tensor('float32', floatsOf(x), [2, 3, 8, 8]) });
    assert.deepEqual(results.logits.data, floatsOf(logits));
    const convolutions = session.nodes.filter(({ op }) => op.includes('Conv'));
    assert.deepEqual(
      convolutions.map(({ op, road }) => [op, road]),
      new Array(8).fill(['QLinearConv', 'native']),
    );
    session.dispose();
    // And so does the one that q8 makes without compat.
    const { model: float, ranges } = FIXTURE.residual;
    const types = { activationType: 'int8', weightType: 'int8' } as const;
    const { report } = await quantize(bytesOf(float), { mode: 'static', ranges, ...types });
    assert.deepEqual(report.floatNodes, []);
  });
});
