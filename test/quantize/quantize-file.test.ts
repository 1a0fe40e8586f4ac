/** quantizeFile(): models with side files, read and written tensor by tensor. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import * as ort from 'onnxruntime-node';
import { digestOf } from '../../lib/onnx/digest';
import { decodeModel, readModel, readModelSync } from '../../lib/onnx/read';
import { writeModel, writeModelFile } from '../../lib/onnx/write';
import { prepareModel, prepareModelFile, type QuantizeOptions, quantize, quantizeFile } from '../../lib/quantize';
import { graphFromProto } from '../../lib/graph/from-proto';
import { runOrt, runOwn } from './judges';
import { NetworkBuilder, randomTensor } from './networks';

/** Three matrices of 128 KiB: large enough to stay in their files. */
function network(): Uint8Array {
  const builder = new NetworkBuilder();
  const x = builder.input('x', ['N', 128]);
  const hidden = builder.node('MatMul', 'hidden', [x, builder.weight('w1', [128, 256], 0.1)]);
  const relu = builder.node('Relu', 'relu', [hidden]);
  const inner = builder.node('MatMul', 'inner', [relu, builder.weight('w2', [256, 128], 0.1)]);
  builder.output(builder.node('Gemm', 'y', [inner, builder.weight('w3', [128, 256], 0.1)]));
  return builder.bytes();
}

/** A model with its side file, as bytes. */
async function loaded(file: string): Promise<Uint8Array> {
  return writeModel((await readModel(file)).model);
}

describe('quantizeFile', () => {
  let folder: string;
  let input: string;

  before(async () => {
    folder = fs.mkdtempSync(path.join(tmpdir(), 'q8-file-'));
    input = path.join(folder, 'float.onnx');
    await writeModelFile(decodeModel(network()), input, { externalData: true });
    assert.ok(fs.existsSync(`${input}.data`));
  });
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  const feeds = [1, 2, 3].map((seed) => ({ x: randomTensor([2, 128], seed) }));
  const settings: Record<string, QuantizeOptions> = {
    // Weights that stay in float go from file to file.
    dynamic: { mode: 'dynamic', exclude: ['y'] },
    'static, engine ort': { mode: 'static', calibration: feeds, engine: 'ort' },
    'static, engine q8': { mode: 'static', calibration: feeds, engine: 'q8', format: 'qdq' },
  };

  for (const [name, options] of Object.entries(settings)) {
    it(`gives what quantize() gives, with or without a side file: ${name}`, async () => {
      const whole = await quantize(input, options);
      const one = path.join(folder, 'one.onnx');
      assert.deepEqual((await quantizeFile(input, one, options)).files, [one]);
      assert.deepEqual(new Uint8Array(fs.readFileSync(one)), whole.model);
      const two = path.join(folder, 'two.onnx');
      const { files, report } = await quantizeFile(input, two, { ...options, externalData: { location: 'side.bin' } });
      assert.deepEqual(files, [two, path.join(folder, 'side.bin')]);
      assert.deepEqual(report, whole.report);
      // What onnxruntime makes of both files.
      const session = await ort.InferenceSession.create(two, { graphOptimizationLevel: 'disabled' });
      const { y } = await session.run({ x: new ort.Tensor('float32', feeds[0].x.data, [2, 128]) });
      assert.deepEqual(y.data, await runOrt(whole.model, feeds[0], { graphOptimizationLevel: 'disabled' }));
      assert.deepEqual(runOwn(fs.readFileSync(one), feeds[0]).length, y.size);
    });
  }

  it('leaves large tensors in their file until they are read', async () => {
    const copy = path.join(folder, 'copy');
    fs.mkdirSync(copy);
    for (const name of ['float.onnx', 'float.onnx.data'])
      fs.copyFileSync(path.join(folder, name), path.join(copy, name));
    const { model } = await readModel(path.join(copy, 'float.onnx'), { isLazy: true });
    const weight = graphFromProto(model)
      .constants()
      .find(({ name }) => name === 'w1')!.constant!;
    const eager = graphFromProto(readModelSync(input).model)
      .constants()
      .find(({ name }) => name === 'w1')!.constant!;
    assert.ok(weight.isLazy && !eager.isLazy);
    assert.deepEqual([weight.dims, weight.size, weight.data], [eager.dims, eager.size, eager.data]);
    assert.equal(weight.data, weight.data, 'kept while it is in use');
    assert.deepEqual(weight.reshape([256, 128]).data, eager.data);
    const [, other] = graphFromProto(model).constants();
    fs.truncateSync(path.join(copy, 'float.onnx.data'), 10);
    assert.throws(() => other.constant!.data, { code: 'ERR_Q8_BAD_MODEL' });
  });

  it('knows a model by its content, wherever its tensors are', async () => {
    const [lazy, eager] = [await readModel(input, { isLazy: true }), await readModel(input)];
    assert.equal(digestOf(lazy), digestOf(eager));
    const other = path.join(folder, 'other.onnx');
    fs.copyFileSync(input, other);
    const data = fs.readFileSync(`${input}.data`);
    data[5000] ^= 1;
    const kept = fs.readFileSync(`${input}.data`);
    fs.writeFileSync(`${input}.data`, data);
    assert.notEqual(digestOf(await readModel(other, { isLazy: true })), digestOf(eager));
    fs.writeFileSync(`${input}.data`, kept);
  });

  it('never overwrites its input, nor a side file of it', async () => {
    const options = { mode: 'dynamic', externalData: { location: 'float.onnx.data' } } as const;
    await assert.rejects(quantizeFile(input, path.join(folder, 'x.onnx'), options), /no part of the input/);
    await assert.rejects(quantizeFile(input, input, { mode: 'dynamic' }), /no part of the input/);
    assert.ok(!fs.existsSync(path.join(folder, 'x.onnx')));
  });

  it('opens what it has written when told so, and leaves nothing behind that does not open', async () => {
    const good = path.join(folder, 'verified.onnx');
    const options = { mode: 'dynamic', verify: true } as const;
    const { files } = await quantizeFile(input, good, { ...options, externalData: true });
    assert.deepEqual(files, [good, `${good}.data`]);
    // A custom operator that no runtime knows.
    const net = new NetworkBuilder();
    const x = net.input('x', ['N', 4]);
    const odd = net.node('Odd', 'odd', [net.node('MatMul', 'product', [x, net.weight('w', [4, 4])])], {}, 'com.odd');
    odd.type = { dtype: 'float32' };
    net.output(odd);
    net.graph.opsets.set('com.odd', 1);
    const strange = path.join(folder, 'strange.onnx');
    fs.writeFileSync(strange, net.bytes());
    const bad = path.join(folder, 'bad.onnx');
    await assert.rejects(quantizeFile(strange, bad, { ...options, externalData: true }), /does not open/);
    assert.ok(!fs.existsSync(bad) && !fs.existsSync(`${bad}.data`));
  });

  it('prepares from file to file, too', async () => {
    const whole = await prepareModel(input);
    const one = path.join(folder, 'prepared.onnx');
    const { files, opset, nodes } = await prepareModelFile(input, one);
    assert.deepEqual([files, opset, nodes], [[one], whole.opset, whole.nodes]);
    assert.deepEqual(new Uint8Array(fs.readFileSync(one)), whole.model);
    const two = await prepareModelFile(input, path.join(folder, 'two.onnx'), { externalData: { location: 'two.bin' } });
    assert.deepEqual(two.files, [path.join(folder, 'two.onnx'), path.join(folder, 'two.bin')]);
    const [feed] = feeds;
    assert.deepEqual(
      await runOrt(new Uint8Array(fs.readFileSync(one)), feed),
      await runOrt(await loaded(two.files[0]), feed),
    );
    await assert.rejects(prepareModelFile(input, input), /no part of the input/);
    const side = { externalData: { location: 'float.onnx.data' } };
    await assert.rejects(prepareModelFile(input, path.join(folder, 'x.onnx'), side), /no part of the input/);
  });

  it('refuses wrong arguments before any work', async () => {
    await assert.rejects(quantizeFile(network() as unknown as string, 'x', { mode: 'dynamic' }), /a path/);
    await assert.rejects(quantizeFile('missing.onnx', '', { mode: 'dynamic' }), /a path/);
    await assert.rejects(
      quantizeFile(input, 'x', { mode: 'dynamic', externaldata: true } as object as QuantizeOptions),
    );
  });
});
