import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { createCanvas } from '@napi-rs/canvas';
import { parseIdx } from '../../lib/readers/idx';
import { formatNpy, parseNpy } from '../../lib/readers/npy';
import { parseNpz } from '../../lib/readers/npz';
import type { Feed, InputSpec } from '../../lib/readers/inputs';
import { randomFeeds } from '../../lib/readers/random';
import { randomSamples, readSamples, type SampleOptions } from '../../lib/readers/samples';
import { Q8Error } from '../../lib/errors';
import { tensorToProto } from '../../lib/graph/tensor-proto';
import { onnx } from '../../lib/onnx/onnx-proto';
import { Tensor } from '../../lib/tensor/tensor';

/** A .npy file as numpy.save writes it. */
function npy(descr: string, shape: string, data: Uint8Array, order = 'False'): Uint8Array {
  const dict = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const header = `${dict.padEnd(Math.ceil((dict.length + 11) / 64) * 64 - 11)}\n`;
  const prefix = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  return Buffer.concat([prefix, Buffer.from(header, 'latin1'), data]);
}

/** A zip archive of one member per entry, deflated or stored. */
function zip(members: Record<string, Uint8Array>, deflated: boolean): Uint8Array {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, data] of Object.entries(members)) {
    const packed = deflated ? deflateRawSync(data) : Buffer.from(data);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(deflated ? 8 : 0, 10);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(data.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(offset, 42);
    parts.push(local, Buffer.from(name), packed);
    directory.push(entry, Buffer.from(name));
    offset += 30 + name.length + packed.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Object.keys(members).length, 10);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

function bytes(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

async function readFeeds(path: string, inputs: readonly InputSpec[], options?: SampleOptions): Promise<Feed[]> {
  const feeds: Feed[] = [];
  for await (const feed of readSamples(path, options)(inputs)) feeds.push(feed);
  return feeds;
}

function randomFeed(input: InputSpec, seed?: number, shapes?: ReadonlyMap<string, readonly number[]>): Feed {
  return [...randomFeeds([input], 1, shapes, seed)][0];
}

const isArgumentError = (error: unknown) => error instanceof Q8Error && error.code === 'ERR_Q8_INVALID_ARGUMENT';

describe('.npy files', () => {
  it('hold their type, shape and elements', () => {
    const tensor = parseNpy(npy('<f4', '(2, 3)', bytes(Float32Array.of(1, 2, 3, 4, 5, 6.5))), 'x');
    assert.equal(tensor.type, 'float32');
    assert.deepEqual(tensor.dims, [2, 3]);
    assert.deepEqual([...(tensor.data as Float32Array)], [1, 2, 3, 4, 5, 6.5]);
  });

  it('may be scalars, vectors and 64-bit integers', () => {
    assert.deepEqual(parseNpy(npy('|u1', '()', Uint8Array.of(7)), 'x').dims, []);
    const tensor = parseNpy(npy('<i8', '(2,)', bytes(BigInt64Array.of(-1n, 2n ** 40n))), 'x');
    assert.deepEqual([...(tensor.data as BigInt64Array)], [-1n, 2n ** 40n]);
  });

  it('come back from what formatNpy writes', () => {
    for (const tensor of [
      new Tensor('float32', Float32Array.of(Number.NaN, -0, 1e30), [3, 1]),
      new Tensor('int8', Int8Array.of(-128, 127), [2]),
      new Tensor('float16', Uint16Array.of(0x3c00), []),
      new Tensor('bool', Uint8Array.of(0, 1, 1, 0), [2, 2]),
    ]) {
      const written = formatNpy(tensor);
      const again = parseNpy(written, 'x');
      assert.deepEqual([again.type, again.dims, again.data], [tensor.type, tensor.dims, tensor.data]);
      assert.equal(written.length % 64, (tensor.data as Uint8Array).byteLength % 64, 'NumPy aligns data to 64 bytes');
    }
  });

  it('are refused when damaged, big-endian, in Fortran order or of unknown type', () => {
    const good = npy('<f4', '(2,)', bytes(Float32Array.of(1, 2)));
    assert.throws(() => parseNpy(good.subarray(0, good.length - 1), 'x'), isArgumentError);
    assert.throws(() => parseNpy(good.subarray(0, 20), 'x'), isArgumentError);
    assert.throws(() => parseNpy(new Uint8Array(0), 'x'), isArgumentError);
    assert.throws(() => parseNpy(npy('<f4', '(2, 2)', new Uint8Array(16), 'True'), 'x'), /ascontiguousarray/);
    assert.throws(() => parseNpy(npy('>f4', '(1,)', new Uint8Array(4)), 'x'), /little-endian/);
    assert.throws(() => parseNpy(npy('<c8', '(1,)', new Uint8Array(8)), 'x'), /c8/);
  });
});

describe('.npz files', () => {
  const a = npy('|u1', '(2,)', Uint8Array.of(1, 2));
  const b = npy('<f4', '(1,)', bytes(Float32Array.of(0.5)));

  for (const deflated of [true, false]) {
    it(`hold arrays by name, ${deflated ? 'deflated' : 'stored'}`, () => {
      const arrays = parseNpz(zip({ 'a.npy': a, 'b.npy': b }, deflated), 'x');
      assert.deepEqual([...arrays.keys()], ['a', 'b']);
      assert.deepEqual(arrays.get('a')?.data, Uint8Array.of(1, 2));
      assert.deepEqual(arrays.get('b')?.data, Float32Array.of(0.5));
    });
  }

  it('are refused wherever they are cut or damaged', () => {
    const archive = zip({ 'a.npy': a }, true);
    for (let length = 0; length < archive.length; length++) {
      assert.throws(() => parseNpz(archive.subarray(0, length), 'x'), isArgumentError);
    }
    for (let at = 0; at < archive.length; at++) {
      const damaged = Uint8Array.from(archive);
      damaged[at] ^= 0xff;
      try {
        parseNpz(damaged, 'x');
      } catch (error) {
        assert.ok(error instanceof Q8Error, `byte ${at}: ${error}`);
      }
    }
  });
});

describe('IDX files', () => {
  const file = Uint8Array.of(0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6);

  it('hold bytes, plain or packed by gzip', () => {
    for (const content of [file, gzipSync(file)]) {
      const tensor = parseIdx(content, 'x');
      assert.deepEqual([tensor.dims, tensor.data], [[2, 3], Uint8Array.of(1, 2, 3, 4, 5, 6)]);
    }
  });

  it('are refused when cut or of another type', () => {
    for (let length = 0; length < file.length; length++) {
      assert.throws(() => parseIdx(file.subarray(0, length), 'x'), isArgumentError);
    }
    assert.throws(() => parseIdx(gzipSync(file).subarray(0, 20), 'x'), isArgumentError);
    assert.throws(() => parseIdx(Uint8Array.of(0, 0, 13, 0), 'x'), isArgumentError);
  });
});

describe('samples', () => {
  const image = { name: 'x', type: 'float32', shape: ['N', 1, 2, 2] };
  let folder: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'q8-samples-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const file = (name: string, content: Uint8Array): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };

  it('are cut along the first axis into feeds of one', async () => {
    const path = file('a.npy', npy('<f4', '(3, 1, 2, 2)', bytes(Float32Array.from({ length: 12 }, (_, i) => i))));
    const feeds = await readFeeds(path, [image]);
    assert.deepEqual(
      feeds.map(({ x }) => [x.dims, [...(x.data as Float32Array)]]),
      [
        [
          [1, 1, 2, 2],
          [0, 1, 2, 3],
        ],
        [
          [1, 1, 2, 2],
          [4, 5, 6, 7],
        ],
        [
          [1, 1, 2, 2],
          [8, 9, 10, 11],
        ],
      ],
    );
    assert.equal((await readFeeds(path, [image], { limit: 2 })).length, 2);
  });

  it('are cut into batches of a fixed size', async () => {
    const path = file('b.npy', npy('<f4', '(5, 2)', new Uint8Array(40)));
    const feeds = await readFeeds(path, [{ name: 'x', type: 'float32', shape: [2, 2] }]);
    assert.deepEqual(
      feeds.map(({ x }) => x.dims),
      [
        [2, 2],
        [2, 2],
      ],
    );
  });

  it('turn bytes into normalized float32 and take the shape of the input', async () => {
    const path = file('c.idx', Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 51, 102, 255));
    const [{ x }] = await readFeeds(path, [image], { mean: 0.5, std: 0.5 });
    assert.deepEqual(x.dims, [1, 1, 2, 2]);
    assert.deepEqual([...(x.data as Float32Array)], [-1, Math.fround(-0.6), Math.fround(-0.2), 1]);
    await assert.rejects(readFeeds(path, [image]), /--mean/);
  });

  it('use one mean and deviation per channel', async () => {
    const path = file('d.npy', npy('|u1', '(1, 2, 1, 1)', Uint8Array.of(255, 255)));
    const input = { name: 'x', type: 'float32', shape: [1, 2, 1, 1] };
    const [{ x }] = await readFeeds(path, [input], { mean: [0, 0.5], std: [1, 0.25] });
    assert.deepEqual([...(x.data as Float32Array)], [1, 2]);
    await assert.rejects(readFeeds(path, [input], { mean: [0, 0, 0] }), isArgumentError);
  });

  it('come from folders of files, in the order of their numbers', async () => {
    const directory = join(folder, 'many');
    mkdirSync(directory);
    for (const i of [10, 2, 1]) file(`many/s${i}.npy`, npy('<f4', '(1, 1)', bytes(Float32Array.of(i))));
    const feeds = await readFeeds(directory, [{ name: 'x', type: 'float32', shape: [1, 1] }]);
    assert.deepEqual(
      feeds.map(({ x }) => (x.data as Float32Array)[0]),
      [1, 2, 10],
    );
  });

  it('come from folders of ONNX test data', async () => {
    const tensors = [new Tensor('float32', [1, 2], [2]), new Tensor('int64', [3n], [1])];
    for (const set of [0, 1]) {
      mkdirSync(join(folder, `onnx/test_data_set_${set}`), { recursive: true });
      for (const [i, tensor] of tensors.entries()) {
        file(`onnx/test_data_set_${set}/input_${i}.pb`, onnx.TensorProto.encode(tensorToProto(tensor, 't')).finish());
      }
    }
    const inputs = [
      { name: 'a', type: 'float32', shape: [2] },
      { name: 'b', type: 'int64', shape: [1] },
    ];
    const feeds = await readFeeds(join(folder, 'onnx'), inputs);
    assert.equal(feeds.length, 2);
    assert.deepEqual([feeds[1].a.data, feeds[1].b.data], [Float32Array.of(1, 2), BigInt64Array.of(3n)]);
  });

  it('for several inputs come by name from an .npz file', async () => {
    const inputs = [
      { name: 'a', type: 'uint8', shape: ['N'] },
      { name: 'b', type: 'float64', shape: ['N'] },
    ];
    const members = {
      'b.npy': npy('<f8', '(2,)', new Uint8Array(16)),
      'a.npy': npy('|u1', '(2,)', Uint8Array.of(5, 6)),
    };
    const feeds = await readFeeds(file('e.npz', zip(members, true)), inputs);
    assert.deepEqual(
      feeds.map(({ a }) => [...(a.data as Uint8Array)]),
      [[5], [6]],
    );
    await assert.rejects(readFeeds(file('f.npz', zip({ 'a.npy': members['a.npy'] }, true)), inputs), /named "b"/);
    await assert.rejects(readFeeds(file('g.npy', members['a.npy']), inputs), /\.npz/);
  });

  it('are refused when shapes or types do not fit', async () => {
    const wrongShape = file('h.npy', npy('<f4', '(1, 1, 2, 3)', new Uint8Array(24)));
    await assert.rejects(readFeeds(wrongShape, [image]), { code: 'ERR_Q8_SHAPE_MISMATCH' });
    const wrongType = file('i.npy', npy('<i4', '(1, 1, 2, 2)', new Uint8Array(16)));
    await assert.rejects(readFeeds(wrongType, [image]), { code: 'ERR_Q8_UNSUPPORTED_DTYPE' });
    const none = file('j.npy', npy('<f4', '(0, 1, 2, 2)', new Uint8Array(0)));
    await assert.rejects(readFeeds(none, [image]), /at least one sample/);
    await assert.rejects(readFeeds(file('k.txt', new Uint8Array(3)), [image]), isArgumentError);
  });

  it('can be random: the same for the same seed, normally distributed', () => {
    const input = { name: 'x', type: 'float32', shape: ['N', 100, 100] };
    const { x } = randomFeed(input);
    assert.deepEqual(x.dims, [1, 100, 100]);
    assert.deepEqual(randomFeed(input).x.data, x.data);
    assert.notDeepEqual(randomFeed(input, 2).x.data, x.data);
    const data = [...(x.data as Float32Array)];
    const mean = data.reduce((sum, v) => sum + v, 0) / data.length;
    const variance = data.reduce((sum, v) => sum + (v - mean) ** 2, 0) / data.length;
    // Five standard errors of 10 000 samples.
    assert.ok(Math.abs(mean) < 0.05 && Math.abs(variance - 1) < 0.071, `mean ${mean}, variance ${variance}`);
  });

  it('need the size of free dimensions that are not the first', () => {
    const input = { name: 'x', type: 'int64', shape: ['N', 'length'] };
    assert.throws(() => randomFeed(input), /--shape x=1x64/);
    const { x } = randomFeed(input, 1, new Map([['x', [1, 4]]]));
    assert.ok([...(x.data as BigInt64Array)].every((id) => id === 0n || id === 1n));
  });

  it('without an axis that counts are batches of one', async () => {
    const path = file('l.npy', npy('<f4', '(1, 2, 2)', bytes(Float32Array.of(1, 2, 3, 4))));
    const [{ x }] = await readFeeds(path, [image]);
    assert.deepEqual([x.dims, x.data], [[1, 1, 2, 2], Float32Array.of(1, 2, 3, 4)]);
  });

  it('of .npy files are read one by one, however large the file is', async () => {
    const header = npy('<f4', '(3000, 300000)', bytes(Float32Array.of(5)));
    const path = file('m.npy', header);
    // Holes take no room on the disk; 3.6 GB fit in no buffer.
    truncateSync(path, header.length - 4 + 3000 * 300000 * 4);
    const samples = readSamples(path, { limit: 1 })([{ name: 'x', type: 'float32', shape: ['N', 300000] }]);
    const iterator = samples[Symbol.asyncIterator]();
    const { value } = await iterator.next();
    assert.equal(value.x.data[0], 5);
    assert.equal(samples.length, 1);
    assert.equal((await iterator.next()).done, true);
  });

  it('come from JSON lines: nested or flat, by name or of the only input', async () => {
    const inputs = [
      { name: 'ids', type: 'int64', shape: ['N', 'L'] },
      { name: 'mask', type: 'bool', shape: [1, 2] },
    ];
    const lines = [
      '{"ids": [[1, 2]], "mask": [true, false]}',
      '',
      '{"ids": {"dims": [1, 1], "data": [7]}, "mask": [1, 1]}',
    ];
    const [a, b] = await readFeeds(file('n.jsonl', Buffer.from(lines.join('\r\n'))), inputs);
    assert.deepEqual([a.ids.dims, a.ids.data], [[1, 2], BigInt64Array.of(1n, 2n)]);
    assert.deepEqual([a.mask.dims, a.mask.data], [[1, 2], Uint8Array.of(1, 0)]);
    assert.deepEqual([b.ids.dims, b.ids.data, b.mask.data], [[1, 1], BigInt64Array.of(7n), Uint8Array.of(1, 1)]);
    const only = [{ name: 'x', type: 'float32', shape: ['N', 2] }];
    const [{ x }] = await readFeeds(file('o.jsonl', Buffer.from('[0.5, -1]\n')), only);
    assert.deepEqual([x.dims, x.data], [[1, 2], Float32Array.of(0.5, -1)]);
    for (const [line, message] of [
      ['{"x": [1, 2]', /JSON for line 1 of/],
      ['{"y": [1, 2]}', /entry for the input "x"/],
      ['[1, null]', /finite numbers/],
      ['[[1, 2], [3]]', /does not match/],
    ] as const) {
      await assert.rejects(readFeeds(file('p.jsonl', Buffer.from(line)), only), message, line);
    }
    await assert.rejects(readFeeds(file('p.jsonl', Buffer.from('{"ids": [[1.5]], "mask": []}')), inputs), /integers/);
  });

  it('can be gone through more than once', async () => {
    const input = { name: 'x', type: 'float32', shape: ['N', 2] };
    const samples = randomSamples(3, { seed: 4, shapes: { x: [2, 2] } })([input]);
    const passes: number[][][] = [];
    for (let pass = 0; pass < 2; pass++) {
      const seen: number[][] = [];
      for await (const { x } of samples) seen.push([...(x.data as Float32Array)]);
      passes.push(seen);
    }
    assert.equal(samples.length, 3);
    assert.deepEqual(passes[0], passes[1]);
    assert.notDeepEqual(passes[0][0], passes[0][1]);
  });

  it('refuse unknown options and wrong values at once', async () => {
    assert.throws(() => readSamples('x', { mea: 1 } as object), /mean/);
    assert.throws(() => readSamples('x', { limit: 0 }), isArgumentError);
    assert.throws(() => readSamples('x', { fit: 'stretch' as 'fill' }), isArgumentError);
    assert.throws(() => readSamples('x', { size: [224] as unknown as [number, number] }), isArgumentError);
    assert.throws(() => readSamples('x', { std: 0 }), isArgumentError);
    assert.throws(() => randomSamples(0), isArgumentError);
    await assert.rejects(readFeeds(join(folder, 'missing'), [image]), isArgumentError);
  });
});

describe('pictures', () => {
  let folder: string;
  let photo: string;

  before(async function () {
    try {
      await import('sharp' as string);
    } catch {
      this.skip();
    }
    folder = mkdtempSync(join(tmpdir(), 'q8-images-'));
    photo = join(folder, 'photo1.png');
    // Red on the left, blue on the right; 4 wide, 2 high.
    const canvas = createCanvas(4, 2);
    const context = canvas.getContext('2d');
    context.fillStyle = '#f00';
    context.fillRect(0, 0, 2, 2);
    context.fillStyle = '#00f';
    context.fillRect(2, 0, 2, 2);
    writeFileSync(photo, canvas.toBuffer('image/png'));
    writeFileSync(join(folder, 'photo10.jpg'), canvas.toBuffer('image/jpeg', 100));
  });
  after(() => folder && rmSync(folder, { recursive: true, force: true }));

  const pixels = { name: 'x', type: 'uint8', shape: ['N', 3, 'H', 'W'] };

  it('become NCHW or NHWC tensors, of their own size where the input leaves it open', async () => {
    const [{ x }] = await readFeeds(photo, [pixels]);
    assert.deepEqual(x.dims, [1, 3, 2, 4]);
    const row = (left: number, right: number) => [left, left, right, right, left, left, right, right];
    assert.deepEqual([...(x.data as Uint8Array)], [...row(255, 0), ...row(0, 0), ...row(0, 255)]);
    const [bgr] = await readFeeds(photo, [pixels], { color: 'bgr' });
    assert.deepEqual([...(bgr.x.data as Uint8Array)], [...row(0, 255), ...row(0, 0), ...row(255, 0)]);
    const [last] = await readFeeds(photo, [{ ...pixels, shape: [1, 2, 4, 3] }]);
    assert.deepEqual([...(last.x.data as Uint8Array).subarray(0, 3)], [255, 0, 0]);
    assert.deepEqual([...(last.x.data as Uint8Array).subarray(9, 12)], [0, 0, 255]);
  });

  it('are resized, cut or bordered, and normalized by channel', async () => {
    const input = { name: 'x', type: 'float32', shape: [1, 3, 2, 2] };
    const normalized = { mean: [0.5, 0, 0], std: [0.5, 1, 0.25] };
    const [{ x }] = await readFeeds(photo, [input], { ...normalized, fit: 'cover' });
    const data = [...(x.data as Float32Array)];
    // The middle two columns.
    assert.deepEqual(data, [1, -1, 1, -1, 0, 0, 0, 0, 0, 4, 0, 4]);
    const open = { name: 'x', type: 'uint8', shape: [1, 3, 'H', 'W'] };
    const [contained] = await readFeeds(photo, [open], { size: [4, 4], fit: 'contain' });
    assert.deepEqual(contained.x.dims, [1, 3, 4, 4]);
    assert.deepEqual([...(contained.x.data as Uint8Array).subarray(0, 8)], [0, 0, 0, 0, 255, 255, 0, 0]);
    const [gray] = await readFeeds(photo, [{ name: 'x', type: 'uint8', shape: [1, 1, 2, 4] }]);
    assert.equal(gray.x.size, 8);
    assert.ok(gray.x.data[0] > gray.x.data[3], 'red is lighter than blue');
    await assert.rejects(readFeeds(photo, [input]), /--mean/);
  });

  it('come from folders, whose length is known at once', async () => {
    const samples = readSamples(folder)([pixels]);
    const shapes: (readonly number[])[] = [];
    for await (const { x } of samples) {
      assert.equal(samples.length, 2);
      shapes.push(x.dims);
    }
    assert.equal(shapes.length, 2);
  });

  it('are refused by inputs of other shapes, and when damaged', async () => {
    for (const shape of [
      [1, 5, 2, 2],
      [2, 3, 2, 2],
      ['N', 10],
    ]) {
      await assert.rejects(readFeeds(photo, [{ name: 'x', type: 'uint8', shape }]), /channels/, String(shape));
    }
    const damaged = join(folder, 'x.png');
    writeFileSync(damaged, Buffer.from('no picture'));
    await assert.rejects(readFeeds(damaged, [pixels]), /x\.png.*cannot be read/);
  });
});
