/** Sessions of one model hold one copy of its packed weights, in all threads, and the last one frees it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { InferenceSession, quantize, Tensor } from '../../lib';
import { loadBinding } from '../../lib/binding/load';

const MODEL = join(__dirname, '../../examples/fashion-mnist/resnet8.onnx');

/** Makes a session, says how many weights live, and releases it when told to. */
const SOURCE = `
  const { parentPort, workerData } = require('node:worker_threads');
  require('tsx/cjs');
  const { InferenceSession } = require(workerData.lib);
  const { loadBinding } = require(workerData.lib + '/binding/load');
  const feed = { input: { type: 'float32', dims: [1, 1, 28, 28], data: new Float32Array(784) } };
  (async () => {
    const session = await InferenceSession.create(workerData.model);
    await session.run(feed);
    parentPort.postMessage(loadBinding().sharedWeights());
    parentPort.once('message', async () => {
      const [output] = Object.values(await session.run(feed));
      await session.release();
      parentPort.postMessage({ size: output.data.length, alive: loadBinding().sharedWeights() });
      parentPort.close();
    });
  })();
`;

async function replyOf(worker: Worker): Promise<unknown> {
  const [reply] = (await once(worker, 'message')) as [unknown];
  return reply;
}

describe('runtime: weights of sessions', function () {
  this.timeout(60_000);
  const feed = { input: new Tensor('float32', new Float32Array(784), [1, 1, 28, 28]) };
  let model: Uint8Array;

  before(async () => {
    ({ model } = await quantize(MODEL, { mode: 'static', calibration: [feed] }));
  });

  it('are one copy for two sessions and a worker, until the last is released', async () => {
    const addon = loadBinding();
    const before = addon.sharedWeights();
    const first = await InferenceSession.create(model);
    await first.run(feed);
    const count = addon.sharedWeights();
    assert.ok(count > before);
    const second = await InferenceSession.create(model);
    await second.run(feed);
    assert.equal(addon.sharedWeights(), count);

    const worker = new Worker(SOURCE, { eval: true, workerData: { model, lib: join(__dirname, '../../lib') } });
    assert.equal(await replyOf(worker), count);
    await first.release();
    assert.equal(addon.sharedWeights(), count);
    await second.release();
    // The worker's session is the only holder now, and still runs.
    assert.equal(addon.sharedWeights(), count);
    const exit = once(worker, 'exit');
    worker.postMessage('go');
    assert.deepEqual(await replyOf(worker), { size: 10, alive: before });
    await exit;
    assert.equal(addon.sharedWeights(), before);
  });

  it('are found by content: another model with the same weights adds none, one changed weight does', async () => {
    const addon = loadBinding();
    const first = await InferenceSession.create(model);
    await first.run(feed);
    const count = addon.sharedWeights();
    const { model: same } = await quantize(MODEL, { mode: 'static', calibration: [feed], format: 'qdq' });
    const second = await InferenceSession.create(same);
    await second.run(feed);
    assert.equal(addon.sharedWeights(), count);
    const { model: other } = await quantize(MODEL, { mode: 'static', calibration: [feed], perChannel: false });
    const third = await InferenceSession.create(other);
    await third.run(feed);
    assert.ok(addon.sharedWeights() > count);
    await Promise.all([first, second, third].map((session) => session.release()));
  });
});
