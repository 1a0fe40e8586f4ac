import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { ModelProto, TensorProto } from '../../lib/onnx/proto';
import { readModel, readModelSync } from '../../lib/onnx/read';
import { writeModel, writeModelFile } from '../../lib/onnx/write';

/** A model with one float32 tensor [4] whose 16 bytes are described by `entries`. */
function external(entries: Record<string, string> | [string, string][], more: TensorProto = {}): ModelProto {
  const list = Array.isArray(entries) ? entries : Object.entries(entries);
  const externalData = list.map(([key, value]) => ({ key, value }));
  const tensor = { name: 'w', dims: [4], dataType: 1, dataLocation: 1, externalData, ...more };
  return { irVersion: 8, opsetImport: [{ version: 17 }], graph: { name: 'g', initializer: [tensor] } };
}

function bytesOf(model: ModelProto): number[] {
  return [...(model.graph?.initializer?.[0].rawData ?? [])];
}

describe('external data', () => {
  const content = Uint8Array.from({ length: 32 }, (_, i) => i);
  let root: string;
  let folder: string;
  let file: string;

  before(() => {
    root = fs.mkdtempSync(path.join(os.tmpdir(), 'q8-external-'));
    folder = path.join(root, 'model');
    file = path.join(folder, 'm.onnx');
    fs.mkdirSync(path.join(folder, 'sub'), { recursive: true });
    fs.writeFileSync(path.join(root, 'outside'), content);
    for (const name of ['w.bin', 'sub/w.bin']) fs.writeFileSync(path.join(folder, name), content);
    fs.symlinkSync(path.join(root, 'outside'), path.join(folder, 'escape'));
    fs.symlinkSync('w.bin', path.join(folder, 'inside'));
    if (process.platform !== 'win32') execFileSync('mkfifo', [path.join(folder, 'pipe')]);
  });

  after(() => fs.rmSync(root, { recursive: true }));

  async function load(model: ModelProto): Promise<number[]> {
    fs.writeFileSync(file, writeModel(model));
    const bytes = bytesOf((await readModel(file)).model);
    assert.deepEqual(bytesOf(readModelSync(file).model), bytes);
    return bytes;
  }

  it('reads ranges of files beside the model', async () => {
    const whole = [...content];
    assert.deepEqual(await load(external({ location: 'w.bin' })), whole.slice(0, 16));
    assert.deepEqual(await load(external({ location: './sub/w.bin', offset: '8', length: '16' })), whole.slice(8, 24));
    assert.deepEqual(await load(external({ location: 'inside', offset: '16', checksum: 'x' })), whole.slice(16));
    assert.deepEqual(await load(external({ location: 'w.bin', offset: '32', length: '0' }, { dims: [0] })), []);
  });

  it('accepts a model that is itself a link, with its side file beside the target', async () => {
    fs.writeFileSync(file, writeModel(external({ location: 'w.bin' })));
    const links = path.join(root, 'links');
    fs.mkdirSync(links);
    fs.symlinkSync(file, path.join(links, 'm.onnx'));
    fs.symlinkSync(path.join(folder, 'w.bin'), path.join(links, 'w.bin'));
    assert.equal(bytesOf((await readModel(path.join(links, 'm.onnx'))).model).length, 16);
  });

  const BAD: [what: string, entries: Record<string, string> | [string, string][], more?: TensorProto][] = [
    ['an absolute path', { location: '/etc/hostname' }],
    ['a step up', { location: '../outside' }],
    ['a step up in the middle', { location: 'sub/../../outside' }],
    ['a drive letter', { location: 'C:/w.bin' }],
    ['a backslash', { location: 'sub\\w.bin' }],
    ['a NUL', { location: 'w.bin\0.txt' }],
    ['no location', {}],
    ['an empty part', { location: 'sub//w.bin' }],
    ['an in-memory tag', { location: '*/_ORT_MEM_ADDR_/*' }],
    ['a link out of the folder', { location: 'escape' }],
    ['a folder', { location: 'sub' }],
    ['a pipe', { location: 'pipe' }],
    ['a missing file', { location: 'nothing.bin' }],
    ['a negative offset', { location: 'w.bin', offset: '-1' }],
    ['an offset that is no number', { location: 'w.bin', offset: '0x10' }],
    ['an offset beyond 2^53', { location: 'w.bin', offset: '9007199254740993' }],
    ['a range beyond the end', { location: 'w.bin', offset: '17' }],
    ['a length that is not the size', { location: 'w.bin', length: '12' }],
    ['an unknown key', { location: 'w.bin', prepacked_0: '1' }],
    [
      'a key twice',
      [
        ['location', 'w.bin'],
        ['location', 'w.bin'],
      ],
    ],
    ['bytes in the model too', { location: 'w.bin' }, { floatData: [1] }],
    ['strings', { location: 'w.bin' }, { dataType: 8 }],
    ['negative dims', { location: 'w.bin' }, { dims: [-4] }],
    ['dims that overflow', { location: 'w.bin' }, { dims: [2 ** 50, 2 ** 50] }],
    ['a size beyond the file', { location: 'w.bin' }, { dims: [2 ** 50] }],
  ];
  for (const [what, entries, more] of BAD) {
    it(`refuses ${what}`, async () => {
      fs.writeFileSync(file, writeModel(external(entries, more)));
      await assert.rejects(readModel(file), { name: 'Q8Error', code: /ERR_Q8_(BAD_MODEL|UNSUPPORTED_DTYPE)/ });
      assert.throws(() => readModelSync(file), { name: 'Q8Error', code: /ERR_Q8_(BAD_MODEL|UNSUPPORTED_DTYPE)/ });
    });
  }

  it('needs to be told where the side files of bytes are', () => {
    const bytes = writeModel(external({ location: 'w.bin', offset: '4' }));
    assert.throws(() => readModelSync(bytes), { code: 'ERR_Q8_BAD_MODEL', message: /baseDirectory or externalData/ });
    const wanted = [...content.subarray(4, 20)];
    assert.deepEqual(bytesOf(readModelSync(bytes, { baseDirectory: folder }).model), wanted);
    assert.deepEqual(bytesOf(readModelSync(bytes, { externalData: { 'w.bin': content } }).model), wanted);
    assert.deepEqual(bytesOf(readModelSync(bytes, { externalData: new Map([['w.bin', content]]) }).model), wanted);
    assert.throws(() => readModelSync(bytes, { externalData: { 'w.bin': content.subarray(0, 19) } }), {
      code: 'ERR_Q8_BAD_MODEL',
    });
  });

  it('writes large tensors to one aligned side file that reads back', async () => {
    const tensor = (name: string, count: number): TensorProto => ({
      name,
      dims: [count],
      dataType: 2,
      rawData: Uint8Array.from({ length: count }, (_, i) => i * 7),
    });
    const initializer = [tensor('a', 5000), tensor('small', 10), tensor('b', 1024)];
    const model: ModelProto = { irVersion: 8, opsetImport: [{ version: 17 }], graph: { name: 'g', initializer } };
    const before = writeModel(model);
    const out = path.join(folder, 'large.onnx');
    assert.deepEqual(await writeModelFile(model, out, { externalData: true }), [out, `${out}.data`]);
    assert.deepEqual(writeModel(model), before, 'the model given is not changed');
    assert.equal(fs.statSync(`${out}.data`).size, 8192 + 1024);
    assert.ok(fs.statSync(out).size < 512);
    assert.deepEqual(writeModel((await readModel(out)).model), before);

    assert.deepEqual(await writeModelFile(model, out, { externalData: { threshold: 1 << 20 } }), [out]);
    await assert.rejects(writeModelFile(model, out, { externalData: { location: '../x' } }), {
      code: 'ERR_Q8_INVALID_ARGUMENT',
    });
    await assert.rejects(writeModelFile(model, out, { externalData: { location: 'large.onnx' } }), {
      code: 'ERR_Q8_INVALID_ARGUMENT',
    });
  });
});
