/** Whole networks against what ONNX Runtime's Python quantizer makes of them: parameters, operators, results. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as zlib from 'node:zlib';
import * as ort from 'onnxruntime-node';
import { type QuantizeReport, quantize } from '../../lib/quantize';
import { Tensor } from '../../lib/tensor/tensor';
import { readGraph, runGraph } from './run-graph';

interface Activation {
  type: string;
  scale: number;
  zeroPoint: number;
}
interface Weight {
  scales: number[];
}
type Format = 'qoperator' | 'qdq';
type Fixture = Record<`${Format}Ops`, Record<string, number>> &
  Record<`${Format}Activations`, Record<string, Activation>> &
  Record<`${Format}Classes`, string> &
  Record<`${Format}Logits`, string> & {
    floatModel: string;
    weights: Record<string, Weight>;
    qoperatorWeights: Record<string, Weight>;
  };

const EXAMPLE = path.join(__dirname, '..', '..', 'examples', 'fashion-mnist');
const FORMATS = ['qoperator', 'qdq'] as const;

function fixture(name: string): Fixture {
  return JSON.parse(
    fs.readFileSync(path.join(__dirname, '..', 'fixtures', 'ort-quantizer', `${name}.json`), 'utf8'),
  ) as Fixture;
}

/** Images as the networks want them: (v / 255 - mean) / deviation in float32. */
function images(file: string, count: number): { input: Tensor<'float32'> }[] {
  const pixels = zlib.gunzipSync(fs.readFileSync(path.join(EXAMPLE, file))).subarray(16);
  const { fround } = Math;
  return Array.from({ length: count }, (_, i) => {
    const data = Float32Array.from(
      pixels.subarray(i * 784, (i + 1) * 784),
      (v) => fround(fround(v / 255) - fround(0.286)) / fround(0.353),
    );
    return { input: new Tensor('float32', data, [1, 1, 28, 28]) };
  });
}

function opCounts(model: Uint8Array): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op, domain } of readGraph(model).nodes) {
    const name = domain ? `${domain}:${op}` : op;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function activations({ tensors }: QuantizeReport): Map<string, { scale: number; zeroPoint: number }> {
  return new Map(
    tensors.flatMap((t) =>
      t.kind === 'activation' ? [[t.name, { scale: t.scale[0], zeroPoint: t.zeroPoint[0] }]] : [],
    ),
  );
}

describe("ONNX Runtime's quantizer", () => {
  const calibration = images('calibration-images.idx.gz', 256);

  describe('on the tiny network', () => {
    const expected = fixture('tiny');
    for (const format of FORMATS) {
      it(`has the same scales, zero points and logits as ${format}`, async () => {
        const float = Buffer.from(expected.floatModel, 'base64');
        const { model, report } = await quantize(float, { mode: 'static', calibration, format, engine: 'ort' });
        // In QOperator form onnxruntime names a Conv's result after the Conv, q8 after the Relu that it absorbs.
        const rename: Record<string, string> = { conv1: 'relu1' };
        const own = activations(report);
        for (const [name, { scale, zeroPoint }] of Object.entries(expected[`${format}Activations`])) {
          assert.deepEqual(own.get(rename[name] ?? name), { scale, zeroPoint }, name);
        }
        for (const [name, { scales }] of Object.entries(expected.qoperatorWeights)) {
          assert.deepEqual(report.tensors.find((t) => t.name === name)?.scale, scales, name);
        }
        const logits = new Float32Array(new Uint8Array(Buffer.from(expected[`${format}Logits`], 'base64')).buffer);
        const graph = readGraph(model);
        images('test-images.idx.gz', 16).forEach((feed, i) => {
          const row = runGraph(graph, feed).logits.data as Float32Array;
          assert.deepEqual(row, logits.subarray(i * row.length, (i + 1) * row.length), `image ${i}`);
        });
      });
    }
  });

  const networks: [name: string, formats: readonly Format[]][] = [
    ['resnet8', FORMATS],
    ['mobilenetv2', ['qoperator']],
  ];
  for (const [name, formats] of networks) {
    describe(`on ${name}`, () => {
      const expected = fixture(name);
      for (const format of formats) {
        it(`gives the same parameters, integer operators and classes as ${format}`, async function () {
          this.timeout(60000);
          const file = path.join(EXAMPLE, `${name}.onnx`);
          const { model, report } = await quantize(file, { mode: 'static', calibration, format, engine: 'ort' });
          // Names differ where batch normalization was folded and a Relu absorbed; the values are what counts. Folding
          // rounds differently, hence the bound.
          const own = [...activations(report).values()];
          for (const [tensor, { scale, zeroPoint }] of Object.entries(expected[`${format}Activations`])) {
            const twin = own.find((p) => Math.abs(p.scale - scale) <= 1e-5 * scale && p.zeroPoint === zeroPoint);
            assert.ok(twin, `${tensor}: ${scale} ${zeroPoint}`);
          }
          const ops = opCounts(model);
          for (const [op, count] of Object.entries(expected[`${format}Ops`])) assert.equal(ops[op], count, op);
          if (format === 'qdq') return;
          const session = await ort.InferenceSession.create(model, { extra: { session: { x64quantprecision: '1' } } });
          let flips = 0;
          for (const [i, { input }] of images('test-images.idx.gz', 500).entries()) {
            const { logits } = await session.run({ input: new ort.Tensor('float32', input.data, input.dims) });
            const row = [...(logits.data as Float32Array)];
            if (row.indexOf(Math.max(...row)) !== Number(expected.qoperatorClasses[i])) flips++;
          }
          // Scales that differ in the last bit move a few codes, and with them images on the edge.
          assert.ok(flips <= 2, `${flips} of 500 images change class`);
        });
      }
    });
  }
});
