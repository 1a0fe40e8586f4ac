/** Saved ranges: that a second call needs no data, and that the ranges of something else are refused. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { type QuantizeOptions, quantize } from '../../lib/quantize';
import { parseRanges } from '../../lib/quantize/ranges';
import { feedsFor, NETWORKS } from './networks';

const [net, other] = NETWORKS;
const calibrated = { mode: 'static', engine: 'q8' } as const;

describe('saved ranges', () => {
  it('give the same model without data', async () => {
    const options = { ...calibrated, calibrationMethod: 'percentile', bins: 512 } as const;
    const first = await quantize(net.model, { ...options, calibration: feedsFor(net, 4) });
    assert.equal(first.ranges?.samples, 4);
    const file = path.join(fs.mkdtempSync(path.join(tmpdir(), 'q8-ranges-')), 'ranges.json');
    fs.writeFileSync(file, JSON.stringify(first.ranges));
    const second = await quantize(net.model, { mode: 'static', ranges: file });
    fs.rmSync(path.dirname(file), { recursive: true });
    assert.deepEqual(second.model, first.model);
    assert.deepEqual(second.report.calibration, first.report.calibration);
    assert.deepEqual(second.ranges, first.ranges);
  });

  it('are taken for the tensors that they name; the others are calibrated', async () => {
    const calibration = feedsFor(net, 4);
    const { ranges } = await quantize(net.model, { ...calibrated, calibration });
    const [[name], ...rest] = Object.entries(ranges!.tensors);
    const given = await quantize(net.model, { ...calibrated, calibration, ranges: { [name]: [-100, 100] } });
    assert.deepEqual(given.ranges?.tensors, { ...Object.fromEntries(rest), [name]: [-100, 100] });
    assert.equal(given.report.calibration?.samples, 4);
  });

  it('of another model are refused', async () => {
    const { ranges } = await quantize(net.model, { ...calibrated, calibration: feedsFor(net, 1) });
    await assert.rejects(quantize(other.model, { mode: 'static', ranges }), /ranges of this model/);
  });

  it('found in another way than the one asked for are refused, before the model is read', async () => {
    const ranges = { method: 'percentile', percentile: 99, tensors: {} } as const;
    const message = /found with (method "minmax"|percentile 99.9)/;
    for (const options of [
      { calibrationMethod: 'minmax' },
      { calibrationMethod: 'percentile', percentile: 99.9 },
    ] as const) {
      await assert.rejects(quantize('none.onnx', { mode: 'static', ranges, ...options }), message);
    }
  });

  it('must be there for every tensor when there is no data', async () => {
    const { ranges } = await quantize(net.model, { ...calibrated, calibration: feedsFor(net, 1) });
    const [[name, range], ...rest] = Object.entries(ranges!.tensors);
    await assert.rejects(
      quantize(net.model, { mode: 'static', ranges: Object.fromEntries(rest) }),
      /lacks 1 of \d+ tensors/,
    );
    const misspelt = { ...Object.fromEntries(rest), [`${name}s`]: range };
    await assert.rejects(quantize(net.model, { mode: 'static', ranges: misspelt }), /did you mean/);
  });

  it('must be ranges', async () => {
    const wrong: unknown[] = [7, [], { x: [1] }, { x: [1, Number.NaN] }, { x: [2, 1] }, { x: 'y' }, '/no/such.json'];
    for (const ranges of wrong) {
      await assert.rejects(
        quantize(net.model, { mode: 'static', ranges } as QuantizeOptions),
        { code: 'ERR_Q8_INVALID_ARGUMENT' },
        JSON.stringify(ranges),
      );
    }
  });

  it('are read from the caches and tables of the Python tool', () => {
    const fixture = JSON.parse(
      fs.readFileSync(path.join(__dirname, '..', 'fixtures', 'ort-calibration', 'tables.json'), 'utf8'),
    );
    const folder = fs.mkdtempSync(path.join(tmpdir(), 'q8-ranges-'));
    for (const name of ['cache.json', 'calibration.json']) {
      fs.writeFileSync(path.join(folder, name), Buffer.from(fixture[name], 'base64'));
    }
    assert.deepEqual(parseRanges(path.join(folder, 'cache.json')), { method: 'minmax', tensors: fixture.ranges });
    assert.deepEqual(parseRanges(path.join(folder, 'calibration.json')), { tensors: fixture.ranges });
    fs.rmSync(folder, { recursive: true });
  });
});
