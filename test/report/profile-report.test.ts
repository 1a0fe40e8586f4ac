import assert from 'node:assert/strict';
import { chromeTrace, percentOfPeak, profileSvg, profileTable, rateOf } from '../../lib/report/profile-report';
import type { ProfileRow } from '../../lib/runtime/profile';

const row = (init: Partial<ProfileRow>): ProfileRow => ({
  name: 'a',
  op: 'Relu',
  step: 'unary',
  kernel: '',
  startMicroseconds: 0,
  microseconds: 10,
  macs: 0,
  isInteger: false,
  ...init,
});

const ROWS = [
  row({
    name: 'conv <1>',
    op: 'QLinearConv',
    step: 'qconv',
    kernel: 'window',
    macs: 2e6,
    isInteger: true,
    microseconds: 40,
  }),
  row({ name: 'relu & more', startMicroseconds: 40 }),
  row({ name: 'conv2', op: 'Conv', step: 'conv', macs: 1e6, microseconds: 50, startMicroseconds: 50 }),
];
const PEAK = { threads: 2, gmacPerSecond: 50 };

describe('profile reports', () => {
  it('compute rates, and percents of the peak for integers only', () => {
    assert.equal(rateOf(ROWS[0]), 50);
    assert.equal(percentOfPeak(ROWS[0], PEAK), 50);
    assert.equal(rateOf(ROWS[1]), undefined);
    assert.equal(rateOf(ROWS[2]), 20);
    assert.equal(percentOfPeak(ROWS[2], PEAK), undefined);
  });

  it('sort the table by time and end with sums', () => {
    const { header, cells } = profileTable(ROWS, PEAK);
    assert.ok(cells.every((line) => line.length === header.length));
    assert.deepEqual(
      cells.map(([name]) => name),
      ['conv2', 'conv <1>', 'relu & more', 'all conv', 'all qconv window', 'all unary', 'total'],
    );
    assert.deepEqual(cells[1].slice(2), ['qconv window', '40.0', '40.0 %', '50.0', '50 %']);
    assert.equal(cells.at(-1)![3], '100.0');
  });

  it('write one complete event per step for Chrome', () => {
    const { traceEvents } = JSON.parse(JSON.stringify(chromeTrace(ROWS, PEAK))) as {
      traceEvents: { ph: string; ts: number; dur: number; args: { percentOfPeak: number | null } }[];
    };
    assert.deepEqual(
      traceEvents.map(({ ph, ts, dur }) => [ph, ts, dur]),
      [
        ['X', 0, 40],
        ['X', 40, 10],
        ['X', 50, 50],
      ],
    );
    assert.equal(traceEvents[0].args.percentOfPeak, 50);
    assert.equal(traceEvents[1].args.percentOfPeak, null);
  });

  it('draw bars as wide as their time, with escaped titles', () => {
    const svg = profileSvg(ROWS, PEAK);
    const bars = [...svg.matchAll(/<title>([^<]*)<\/title><rect x="([\d.]+)" y="(\d+)" width="([\d.]+)"/g)];
    assert.equal(bars.length, 1 + 3 + 3);
    for (const y of ['0', '22', '44']) {
      const level = bars.filter((bar) => bar[3] === y);
      assert.equal(
        level.reduce((sum, bar) => sum + Number(bar[4]), 0),
        1200,
      );
    }
    assert.ok(svg.includes('conv &lt;1&gt;'));
    assert.ok(svg.includes('relu &amp; more'));
    assert.ok(!svg.includes('conv <1>'));
  });

  it('take an empty run', () => {
    assert.equal(profileTable([], PEAK).cells.length, 1);
    assert.match(profileSvg([], PEAK), /^<svg/);
  });
});
