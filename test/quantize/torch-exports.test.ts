/**
 * Networks as PyTorch exports them, by both of its exporters (test/fixtures/torch): fused, they give what they gave before, for
 * several lengths and masks with holes; quantized with the defaults of every mode, they run alike in onnxruntime and here.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import { fuseTransformers, prepare } from '../../lib/passes';
import { type QuantizeOptions, quantize } from '../../lib/quantize';
import { explain } from '../../lib/quantize/explain';
import { sqnr } from '../../lib/report/metrics';
import { InferenceSession } from '../../lib/runtime/session';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, type Feed, opCounts, runOrt, runSession } from './judges';
import { randomTensor } from './networks';
import { readGraph } from './run-graph';

const FOLDER = join(__dirname, '..', 'fixtures', 'torch');
const names = readdirSync(FOLDER).map((file) => file.replace('.onnx.gz', ''));
const [LAYERS, VOCABULARY] = [2, 40];
const SHAPES = [
  [1, 1],
  [1, 7],
  [3, 12],
  [2, 20],
] as const;

/** One item of one length where the export has no names for sizes. */
function shapesOf(name: string): readonly (readonly [number, number])[] {
  return name.includes('fixed') ? [[1, 7]] : SHAPES;
}

function load(name: string): Uint8Array {
  return gunzipSync(readFileSync(join(FOLDER, `${name}.onnx.gz`)));
}

interface Sample {
  feed: Feed;
  /** Whether a place of [batch, length] counts; results of the others mean nothing. */
  counts: boolean[];
}

/** Ids, and a mask with holes anywhere but in the first item; pictures. */
function sample(model: Uint8Array, [batch, length]: readonly [number, number], seed: number): Sample {
  const inputs = readGraph(model).inputs.map(({ name }) => name);
  if (inputs[0] === 'pixel_values') {
    return { feed: { pixel_values: randomTensor([batch, 3, 16, 16], seed) }, counts: [] };
  }
  const random = randomTensor([3 * batch * length], seed).data as Float32Array;
  const uniform = Array.from(random, (value) => Math.abs(value * 1000) % 1);
  const size = batch * length;
  const counts = Array.from({ length: size }, (_, i) => i <= length || i % length === 2 || uniform[i] < 0.6);
  const ints = (values: number[]): Tensor => new Tensor('int64', BigInt64Array.from(values, BigInt), [batch, length]);
  const all: Record<string, Tensor> = {
    input_ids: ints(uniform.slice(size, 2 * size).map((value) => 2 + Math.floor(value * (VOCABULARY - 2)))),
    attention_mask: ints(counts.map(Number)),
    token_type_ids: ints(uniform.slice(2 * size).map((value) => Math.floor(value * 2))),
  };
  return { feed: Object.fromEntries(inputs.map((name) => [name, all[name]])), counts };
}

/** The rows that count. */
function rows(values: Float32Array, { counts }: Sample): Float32Array {
  if (counts.length === 0) return values;
  const width = values.length / counts.length;
  return values.filter((_, i) => counts[Math.floor(i / width)]);
}

describe('quantize: exports of PyTorch', () => {
  for (const name of names.filter((each) => !each.startsWith('residual'))) {
    const model = load(name);
    const isEmbedded = /^(bert|distilbert|minilm)/.test(name);

    it(`${name}: the same results, fused`, async () => {
      const graph = readGraph(model);
      prepare(graph);
      fuseTransformers(graph, () => false);
      const counts = opCounts(graph);
      assert.equal(counts.Attention, LAYERS);
      assert.equal((counts.Gelu ?? 0) + (counts.FastGelu ?? 0), LAYERS);
      assert.equal(counts.EmbedLayerNormalization ?? 0, isEmbedded ? 1 : 0);
      // Those behind a sum; that of RoBERTa's embeddings is one too, and the first of a ViT has none.
      const norms = (counts.SkipLayerNormalization ?? 0) + (counts.LayerNormalization ?? 0);
      assert.equal(norms, isEmbedded ? 2 * LAYERS : 2 * LAYERS + 1);
      assert.ok(counts.SkipLayerNormalization >= 2 * LAYERS);
      assert.equal(counts.Softmax, undefined);
      const fused = writeModel(graphToProto(graph));
      for (const [i, shape] of shapesOf(name).entries()) {
        const each = sample(model, shape, 20 + i);
        const exact = rows(await runOrt(model, each.feed), each);
        // Sums in another order.
        for (const run of [runOrt, runSession]) {
          const db = sqnr(exact, rows(await run(fused, each.feed), each));
          assert.ok(db > 110, `${run.name}, ${shape}: ${db} dB`);
        }
      }
    });

    it(`${name}: dynamic quantization leaves no product and no table in float`, async () => {
      const { model: quantized, report } = await quantize(model, { mode: 'dynamic', verify: true });
      const counts = opCounts(readGraph(quantized));
      assert.equal(counts.QAttention, LAYERS);
      assert.equal(counts.QEmbedLayerNormalization ?? 0, isEmbedded ? 1 : 0);
      for (const op of ['MatMul', 'Gemm', 'Conv', 'Attention', 'EmbedLayerNormalization'])
        assert.equal(counts[op], undefined);
      assert.deepEqual(report.floatNodes, []);
      for (const [i, shape] of shapesOf(name).entries()) {
        const each = sample(model, shape, 30 + i);
        const exact = rows(await runOrt(model, each.feed), each);
        const judged = rows(await runOrt(quantized, each.feed, EXACT), each);
        const own = rows(await runSession(quantized, each.feed), each);
        assert.ok(sqnr(exact, own) > 25, `${shape}: ${sqnr(exact, own)} dB`);
        // Codes are equal, but where a sum in float falls on the other side of a tie.
        // Float operators of onnxruntime differ between CPUs, and codes near a tie with them.
        assert.ok(sqnr(judged, own) > 35, `q8 to onnxruntime, ${shape}: ${sqnr(judged, own)} dB`);
      }
    });
  }

  for (const name of names) {
    for (const format of ['qoperator', 'qdq'] as const) {
      it(`${name}: static quantization, ${format}`, async () => {
        const model = load(name);
        const each = sample(model, name.includes('fixed') ? [1, 7] : [3, 11], 50);
        const others = shapesOf(name).map((shape, i) => sample(model, shape, 40 + i).feed);
        // Ranges hold what is compared: random networks are not robust against clipping.
        const calibration = [...others, each.feed];
        const options: QuantizeOptions = { mode: 'static', format, calibration, verify: true };
        const { model: quantized, report } = await quantize(model, options);
        assert.deepEqual((await explain(model, options)).quantizedNodes, report.quantizedNodes);
        if (format === 'qoperator')
          assert.equal(
            report.floatNodes.find(({ op }) => op === 'Erf'),
            undefined,
          );
        const products = ['MatMul', 'Gemm', 'Conv', 'Gather'];
        assert.deepEqual(
          report.floatNodes.filter(({ op }) => products.includes(op)),
          [],
        );
        if (name.startsWith('residual')) assert.deepEqual(report.floatNodes, []);
        const exact = rows(await runOrt(model, each.feed), each);
        const judged = rows(await runOrt(quantized, each.feed, EXACT), each);
        const own = rows(await runSession(quantized, each.feed), each);
        assert.ok(sqnr(exact, own) > 20, `${sqnr(exact, own)} dB`);
        assert.ok(sqnr(judged, own) > 35, `q8 to onnxruntime: ${sqnr(judged, own)} dB`);
      });
    }
  }

  it('runs natively, but for arithmetic on ids', async () => {
    for (const name of names) {
      const { model } = await quantize(load(name), { mode: 'dynamic' });
      const session = await InferenceSession.create(model);
      const rows = session.profile(sample(model, name.includes('fixed') ? [1, 7] : [2, 9], 60).feed);
      await session.release();
      const slow = new Set(rows.filter(({ step }) => step === 'typescript').map(({ op }) => op));
      // RoBERTa counts ids that are no padding.
      const integers = /roberta/.test(name)
        ? ['Cast', 'Equal', 'Not', 'CumSum', 'Mul', 'Add', 'GatherElements']
        : ['Cast'];
      assert.deepEqual([name, ...[...slow].filter((op) => !integers.includes(op))], [name]);
    }
  });
});
