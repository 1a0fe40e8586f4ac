/** Packed weights found by name in every thread of the process, and gone when nobody uses them. */
import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import { addon } from './harness';

const SOURCE = `
  const { parentPort, workerData } = require('node:worker_threads');
  const addon = require(workerData.file);
  const weights = addon.findWeights('gemm of the test');
  const other = addon.findWeights('conv of the test');
  parentPort.postMessage({ k: weights?.k, n: weights?.n, bytes: other?.bytes, absent: addon.findWeights('nobody') });
  parentPort.once('message', () => {
    const y = new Int32Array(2);
    const step = { op: 'qgemm', x: 0, y: 1, m: 1, weights, xZeroPoint: 0, output: { kind: 'int32', bias: null } };
    const buffers = [
      { kind: 'input', index: 0, dtype: 'uint8', elements: 3 },
      { kind: 'output', index: 0, dtype: 'int32', elements: 2 },
    ];
    const program = addon.createProgram({ buffers, steps: [step], arenaBytes: 0 });
    weights.release();
    program.runSync([Uint8Array.of(1, 2, 3)], [y], 1);
    parentPort.postMessage({ y, alive: addon.sharedWeights() });
    parentPort.close();
  });
`;

describe('program: shared weights', () => {
  it('are one copy in all threads, until the last handle and program are gone', async () => {
    const before = addon.sharedWeights();
    const gemm = addon.packGemm(Int8Array.of(1, -2, 3, -4, 5, -6), 3, 2, 2, false, null);
    const conv = addon.packConv(new Int8Array(16), [4, 4, 1, 1], 1, null);
    addon.shareWeights('gemm of the test', gemm);
    addon.shareWeights('conv of the test', conv);
    // The name is taken: the first weights stay.
    addon.shareWeights('gemm of the test', conv);
    assert.equal(addon.sharedWeights(), before + 2);

    const file = Object.keys(require.cache).find((path) => path.endsWith('q8.node'));
    const worker = new Worker(SOURCE, { eval: true, workerData: { file } });
    const message = (): Promise<Record<string, unknown>> =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    assert.deepEqual(await message(), { k: 3, n: 2, bytes: conv.bytes, absent: null });
    gemm.release();
    conv.release();
    const exit = new Promise((resolve) => worker.once('exit', resolve));
    worker.postMessage('go');
    // The worker's handle of conv and its program keep both.
    assert.deepEqual(await message(), { y: Int32Array.of(1 + 6 + 15, -2 - 8 - 18), alive: before + 2 });
    await exit;
    assert.equal(addon.sharedWeights(), before);
    assert.equal(addon.findWeights('gemm of the test'), null);
  });

  it('forgets names whose weights are gone', () => {
    const before = addon.sharedWeights();
    for (let i = 0; i < 500; i++) {
      const weights = addon.packGemm(new Int8Array(4), 2, 2, 2, false, null);
      addon.shareWeights(`short-lived ${i}`, weights);
      weights.release();
    }
    assert.equal(addon.sharedWeights(), before);
  });

  it('refuses what is no weights', () => {
    assert.throws(() => addon.shareWeights('x', {} as never), /handle for weights/);
  });
});
