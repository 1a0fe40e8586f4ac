/** qgemmAsync: off the event loop, abortable, safe with worker threads. And the choice of kernels by Q8_ISA. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { cpuInfo, packWeights, qgemm, qgemmAsync } from '../../lib/kernels/index';

const kernels = join(__dirname, '..', '..', 'lib', 'kernels', 'index.ts');
const size = 1024;
const a = Uint8Array.from({ length: size * size }, (_, i) => (i * 31) & 255);
const b = packWeights({ k: size, n: size, b: Int8Array.from({ length: size * size }, (_, i) => (i * 17) & 255) });
const square = { m: size, n: size, k: size, a, b };

/** A product long enough for `milliseconds` on one thread: the rows of A repeat. */
function longCall(milliseconds: number) {
  const start = performance.now();
  qgemm({ ...square, threads: 1 });
  const repeat = Math.ceil(milliseconds / (performance.now() - start)) + 1;
  const rows = new Uint8Array(repeat * a.length);
  for (let i = 0; i < repeat; i++) rows.set(a, i * a.length);
  return { ...square, m: repeat * size, a: rows, threads: 1, out: new Int32Array(repeat * size * size) };
}

describe('qgemmAsync', () => {
  it('gives the result of qgemm', async () => {
    const out = new Int32Array(size * size);
    const promise = qgemmAsync({ ...square, out });
    assert.equal(await promise, out);
    assert.deepEqual(out, qgemm(square));
  });

  it('packs unpacked weights off the event loop, too', async () => {
    const call = { m: 3, n: 2, k: 2, a: Int8Array.of(1, 2, 3, 4, 5, 6), b: Uint8Array.of(1, 2, 3, 4), bZeroPoint: 2 };
    const requantize = { scale: Float32Array.of(1, 0.5), dtype: 'int8', bias: Int32Array.of(5, -5) } as const;
    assert.deepEqual(await qgemmAsync({ ...call, requantize }), qgemm({ ...call, requantize }));
  });

  it('keeps a 1 ms timer ticking during a long product', async () => {
    const call = longCall(600);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const start = performance.now();
    await qgemmAsync(call);
    clearInterval(timer);
    const elapsed = performance.now() - start;
    assert.ok(elapsed >= 50, `the product took only ${elapsed.toFixed(0)} ms`);
    // A blocked loop would tick once or not at all; a busy machine still gives a tenth of the time.
    assert.ok(ticks > elapsed / 10, `${ticks} ticks in ${elapsed.toFixed(0)} ms`);
  });

  it('rejects with the reason of the signal, at once when it is aborted already', async () => {
    const reason = new Error('enough');
    await assert.rejects(qgemmAsync({ ...square, signal: AbortSignal.abort(reason) }), (error) => error === reason);

    const call = longCall(1000);
    const controller = new AbortController();
    const promise = qgemmAsync({ ...call, signal: controller.signal });
    await sleep(20);
    const start = performance.now();
    controller.abort(reason);
    await assert.rejects(promise, (error) => error === reason);
    assert.ok(performance.now() - start < 500, 'it went on after the abort');
  });

  it('runs many calls at once', async () => {
    const expected = qgemm(square);
    const results = await Promise.all(Array.from({ length: 12 }, () => qgemmAsync(square)));
    for (const result of results) assert.deepEqual(result, expected);
  });

  describe('with many short calls', () => {
    const rows = 4;
    const short = { ...square, m: rows, a: a.subarray(0, rows * size), threads: 1 };
    const expected = qgemm(short);

    it('settles each', async () => {
      for (const inFlight of [1, 3, 8, 500]) {
        let started = 0;
        const next = async (): Promise<void> => {
          while (started++ < 600) assert.deepEqual(await qgemmAsync(short), expected);
        };
        await Promise.all(Array.from({ length: inFlight }, next));
      }
    });

    it('lets none wait for a long one behind it', async () => {
      const long = longCall(100);
      let settled = 0;
      const shorts = Array.from({ length: 60 }, () => qgemmAsync(short).then(() => settled++));
      const { out: _, ...other } = long;
      const longs = [qgemmAsync(long), qgemmAsync(other)];
      await Promise.any(longs);
      assert.equal(settled, shorts.length);
      await Promise.all([...shorts, ...longs]);
    });
  });

  it('finishes calls in flight when the weights are disposed', async () => {
    const weights = packWeights({ k: 2, n: 1, b: Int8Array.of(3, 4) });
    const promise = qgemmAsync({ m: 1, n: 1, k: 2, a: Uint8Array.of(1, 1), b: weights });
    weights.dispose();
    assert.deepEqual([...(await promise)], [7]);
  });
});

describe('worker threads', () => {
  const source = `
    require('tsx/cjs');
    const { qgemm, qgemmAsync, packWeights } = require(${JSON.stringify(kernels)});
    const { parentPort } = require('node:worker_threads');
    const n = 512;
    const b = packWeights({ k: n, n, b: new Int8Array(n * n).fill(1) });
    const call = { m: n, n, k: n, a: new Uint8Array(n * n).fill(2), b };
    parentPort.postMessage(qgemm(call)[n * n - 1]);
    (async () => { for (;;) await Promise.all([qgemmAsync(call), qgemmAsync(call)]); })();
    const short = { ...call, m: 4, a: call.a.subarray(0, 4 * n) };
    (async () => { for (;;) await Promise.all(Array.from({ length: 20 }, () => qgemmAsync(short))); })();
  `;

  it('load, compute and may be terminated in the middle of a call', async () => {
    const workers = Array.from({ length: 8 }, () => new Worker(source, { eval: true }));
    const answers = await Promise.all(
      workers.map((worker) => new Promise((done, fail) => worker.once('message', done).once('error', fail))),
    );
    assert.deepEqual(answers, new Array(8).fill(1024));
    await Promise.all(workers.map((worker) => worker.terminate()));
    assert.equal(qgemm({ m: 1, n: 1, k: 1, a: Uint8Array.of(2), b: Int8Array.of(-3) })[0], -6);
  });
});

describe('Q8_ISA', () => {
  const { isa } = cpuInfo();
  const script = `
    require('tsx/cjs');
    const { cpuInfo, qgemm } = require(${JSON.stringify(kernels)});
    try {
      const { isa, kernels } = cpuInfo();
      const c = qgemm({ m: 1, n: 2, k: 2, a: Uint8Array.of(1, 2), b: Int8Array.of(3, 4, 5, 6) });
      console.log(JSON.stringify({ selected: isa.selected, forced: isa.forced, kernel: kernels.u8u8.kernel, c: [...c] }));
    } catch ({ name, code, message }) {
      console.log(JSON.stringify({ name, code, message }));
    }
  `;
  const run = (name: string) => {
    const env = { ...process.env, Q8_ISA: name };
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' });
    assert.ok(stdout, stderr);
    return JSON.parse(stdout);
  };

  for (const name of isa.supported) {
    it(`forces ${name}`, () => {
      assert.deepEqual(run(name), { selected: name, forced: true, kernel: name, c: [13, 16] });
    });
  }

  const missing = isa.compiled.filter((name) => !isa.supported.includes(name));
  for (const name of ['avx512', ...missing]) {
    it(`refuses ${name} with a list of what there is`, () => {
      const { name: errorName, code, message } = run(name);
      assert.equal(errorName, 'Q8Error');
      assert.equal(code, 'ERR_Q8_UNSUPPORTED_CPU');
      assert.equal(
        message,
        `Q8_ISA="${name}" is not available. This build has: ${isa.compiled.join(', ')}. ` +
          `This CPU supports: ${isa.supported.join(', ')}.`,
      );
    });
  }
});

describe('loading', () => {
  it('says what failed and how to build', () => {
    const script = `
      require('tsx/cjs');
      const { cpuInfo } = require(${JSON.stringify(kernels)});
      try { cpuInfo(); } catch ({ code, message, hint }) { console.log(JSON.stringify({ code, message, hint })); }
    `;
    const load = (file: string) => {
      const env = { ...process.env, Q8_BINARY: file };
      return JSON.parse(spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' }).stdout);
    };
    const absent = load('/nowhere/q8.node');
    assert.equal(absent.code, 'ERR_Q8_NO_BINARY');
    assert.match(absent.message, /does not exist/);
    const folder = mkdtempSync(join(tmpdir(), 'q8-'));
    writeFileSync(join(folder, 'broken.node'), 'no machine code');
    const broken = load(join(folder, 'broken.node'));
    rmSync(folder, { recursive: true });
    assert.equal(broken.code, 'ERR_Q8_NO_BINARY');
    assert.match(broken.hint, /npm run build:native/);
  });
});
