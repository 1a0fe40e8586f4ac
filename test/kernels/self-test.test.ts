/** Kernels that fail the self-test are not used, and a warning says so. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { cpuInfo } from '../../lib/kernels';

interface Outcome {
  selected: string;
  c: number[];
  warnings: { code: string; message: string; detail: string }[];
}

/** What a process of its own does in which the kernels of one instruction set are said to be wrong. */
function runWithBroken(isa: string): Outcome {
  const script = `
    const warnings = [];
    process.on('warning', ({ code, message, detail }) => warnings.push({ code, message, detail }));
    const { qgemm, cpuInfo } = require(${JSON.stringify(join(__dirname, '../../lib/kernels'))});
    const c = [...qgemm({ m: 1, n: 1, k: 2, a: Uint8Array.of(255, 255), b: Int8Array.of(-128, -128) })];
    setImmediate(() => console.log(JSON.stringify({ selected: cpuInfo().isa.selected, c, warnings })));`;
  const stdout = execFileSync(process.execPath, ['--no-warnings', '--require', 'tsx/cjs', '--eval', script], {
    env: { ...process.env, Q8_SELFTEST_FAIL: isa },
    encoding: 'utf8',
  });
  return JSON.parse(stdout) as Outcome;
}

describe('self-test', () => {
  const { isa } = cpuInfo();

  it('falls back one level, with a warning', function () {
    if (isa.selected === 'scalar') this.skip();
    const next = isa.supported[isa.supported.indexOf(isa.selected) + 1];
    const { selected, c, warnings } = runWithBroken(isa.selected);
    assert.equal(selected, next);
    assert.deepEqual(c, [2 * 255 * -128]);
    assert.deepEqual(warnings, [
      {
        code: 'Q8_SELFTEST',
        message: `The ${isa.selected} kernels of q8 compute wrong results on this CPU (Q8_SELFTEST_FAIL).`,
        detail: `q8 uses the ${next} kernels instead.`,
      },
    ]);
  });

  it('is silent when the kernels are right', () => {
    const { selected, warnings } = runWithBroken('none');
    assert.equal(selected, isa.selected);
    assert.deepEqual(warnings, []);
  });
});
