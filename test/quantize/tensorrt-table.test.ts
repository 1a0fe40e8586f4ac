/** Calibration tables, judged by the bytes of ONNX Runtime's Python tool. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { writeCalibrationTable } from '../../lib/quantize';
import type { CalibrationRanges } from '../../lib/quantize/ranges';
import { calibrationTable } from '../../lib/quantize/tensorrt-table';

type Fixture = { ranges: CalibrationRanges['tensors'] } & Record<
  'calibration.json' | 'calibration.flatbuffers' | 'calibration.cache',
  string
>;

const fixture: Fixture = JSON.parse(
  fs.readFileSync(path.join(__dirname, '..', 'fixtures', 'ort-calibration', 'tables.json'), 'utf8'),
);
const bytesOf = (name: Exclude<keyof Fixture, 'ranges'>) => Buffer.from(fixture[name], 'base64');

/** Follows the references of a flatbuffer, as a reader of the format does. */
function decode(bytes: Uint8Array): Map<string, string> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const follow = (at: number) => at + buffer.readUInt32LE(at);
  const field = (table: number, index: number) => {
    const description = table - buffer.readInt32LE(table);
    return follow(table + buffer.readUInt16LE(description + 4 + 2 * index));
  };
  const text = (at: number) => buffer.toString('utf8', at + 4, at + 4 + buffer.readUInt32LE(at));
  const vector = field(follow(0), 0);
  const entries = Array.from({ length: buffer.readUInt32LE(vector) }, (_, i) => follow(vector + 4 + 4 * i));
  return new Map(entries.map((entry) => [text(field(entry, 0)), text(field(entry, 1))]));
}

describe('calibration tables for TensorRT', () => {
  it('equal those of the Python tool, byte by byte, in compatibility mode', () => {
    const table = calibrationTable(fixture.ranges, true);
    assert.equal(table.json, bytesOf('calibration.json').toString());
    assert.equal(table.cache, bytesOf('calibration.cache').toString());
    assert.deepEqual(Buffer.from(table.flatbuffers), bytesOf('calibration.flatbuffers'));
  });

  it('hold the largest magnitude otherwise', () => {
    const { flatbuffers, cache } = calibrationTable({ low: [-4, 1], high: [-1, 2.5] }, false);
    assert.equal(cache, 'high 2.5\nlow 4.0\n');
    assert.deepEqual(
      decode(flatbuffers),
      new Map([
        ['low', '4.0'],
        ['high', '2.5'],
      ]),
    );
  });

  it('are written to a folder, from ranges or a file of them', async () => {
    const folder = fs.mkdtempSync(path.join(tmpdir(), 'q8-table-'));
    try {
      const saved = path.join(folder, 'saved.json');
      fs.writeFileSync(saved, bytesOf('calibration.json'));
      const files = await writeCalibrationTable(saved, folder, { compat: 'onnxruntime' });
      assert.deepEqual(
        files.map((file) => path.basename(file)),
        ['calibration.json', 'calibration.flatbuffers', 'calibration.cache'],
      );
      assert.deepEqual(fs.readFileSync(files[1]), bytesOf('calibration.flatbuffers'));
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  it('refuse what are no ranges, and unknown options', async () => {
    await assert.rejects(writeCalibrationTable({ x: [2, 1] }, '.'), /Expected \[min, max\].*"x".*\[2, 1\]/);
    await assert.rejects(writeCalibrationTable({ x: [1, 2] }, '.', { compt: 'onnxruntime' } as object), /compat/);
  });
});
