/** compat: 'onnxruntime': parameters, weights and biases bit by bit as ONNX Runtime's Python quantizer makes them. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { type QuantizeOptions, quantize } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { assertSame, constantsOf, type Digests } from './digests';
import { EXACT, type Feed, runOrt, runSession } from './judges';
import { randomTensor } from './networks';
import { readGraph } from './run-graph';

type Settings = Record<string, unknown> & { format?: string };
interface Net {
  model: string;
  ranges: Record<string, [number, number]>;
  static: [Settings, Digests][];
  dynamic: [Settings, Digests][];
}

const FIXTURE: Record<'resnet' | 'mobilenet' | 'transformer', Net> = JSON.parse(
  gunzipSync(fs.readFileSync(path.join(__dirname, '../fixtures/ort-quantizer/compat.json.gz'))).toString(),
);

/** Where a Relu or Clip is part of a range, onnxruntime's tool names it after what the Relu reads, q8 after its output. */
const RENAMED: Record<string, string> = {
  stem: 'stem_relu',
  left: 'left_relu',
  sum: 'sum_relu',
  reduce: 'reduce_relu',
};

function sampleOf(name: string): Feed {
  if (name === 'transformer') {
    return {
      ids: new Tensor(
        'int64',
        BigInt64Array.from({ length: 12 }, (_, i) => BigInt((i * 7) % 20)),
        [2, 6],
      ),
    };
  }
  return { x: randomTensor([2, 3, 8, 8], 3, 2) };
}

/** Products of uint8 activations are exact where asked for; those of int8 pairs saturate, unless they stay float. */
function judgeOptions({ activationType, format }: Settings): object {
  if (activationType === 'uint8') return EXACT;
  return activationType === 'int8' && format === 'qdq' ? { graphOptimizationLevel: 'disabled' } : {};
}

describe("compat: 'onnxruntime'", () => {
  for (const [name, net] of Object.entries(FIXTURE) as [keyof typeof FIXTURE, Net][]) {
    if (!net.static) continue;
    const float = Buffer.from(net.model, 'base64');
    const renamed = name === 'mobilenet' ? { ...RENAMED, stem: 'stem_clip' } : RENAMED;

    describe(`static, ${name}`, () => {
      for (const [index, [settings, expected]] of net.static.entries()) {
        const text = Object.entries(settings).map(([key, value]) =>
          typeof value === 'boolean' ? `${value ? '' : 'not '}${key}` : typeof value === 'object' ? key : String(value),
        );
        it(text.join(', '), async () => {
          const options = { mode: 'static', compat: 'onnxruntime', ranges: net.ranges, ...settings } as QuantizeOptions;
          const { model } = await quantize(float, options);
          assertSame(constantsOf(model), expected, settings.format === 'qdq', renamed);
          const sample = sampleOf(name);
          const judged = await runOrt(model, sample, judgeOptions(settings));
          // Every third also runs here. Fused or not, each layer of these nets differs by last bits of its codes.
          if (index % 3 !== 0) return;
          const quality = sqnr(judged, await runSession(model, sample));
          assert.ok(quality > 20, `${quality} dB`);
        });
      }
    });

    describe(`dynamic, ${name}`, () => {
      for (const [settings, expected] of net.dynamic) {
        it(Object.entries(settings).join(', '), async () => {
          const options = { mode: 'dynamic', compat: 'onnxruntime', ...settings } as QuantizeOptions;
          const { model } = await quantize(float, options);
          const graph = readGraph(model);
          // Onnxruntime has no ConvInteger for int8 weights: q8 writes the same codes 128 higher, as uint8.
          const shifted = [...graph.nodes].flatMap(({ op, inputs }) =>
            op === 'ConvInteger' && settings.weightType === 'int8' ? [inputs[1]!, inputs[3]!] : [],
          );
          for (const value of new Set(shifted)) {
            const { data, dims } = value.constant!;
            value.constant = new Tensor(
              'int8',
              Int8Array.from(data as Uint8Array, (code) => code - 128),
              dims,
            );
          }
          assertSame(new Map(graph.constants().map((value) => [value.name, value.constant!])), expected, true, {});
          const sample = sampleOf(name);
          const [judged, own] = await Promise.all([runOrt(model, sample, EXACT), runSession(model, sample)]);
          assert.ok(sqnr(judged, own) > 30, `${sqnr(judged, own)} dB`);
        });
      }
    });
  }
});
