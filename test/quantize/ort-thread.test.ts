/** Calibration on onnxruntime leaves the event loop free, stops between samples, and says what went wrong. */
import assert from 'node:assert/strict';
import { openOrt } from '../../lib/quantize/engines/ort';
import { quantize } from '../../lib/index';
import { Tensor } from '../../lib/tensor/tensor';
import { int, NetworkBuilder, randomTensor } from './networks';
import { readGraph } from './run-graph';

/** A product that takes some hundred milliseconds. */
function slowModel(): Uint8Array {
  const net = new NetworkBuilder();
  let y = net.input('x', [1500, 1500]);
  const w = net.weight('w', [1500, 1500], 0.01);
  for (let i = 0; i < 6; i++) y = net.node('MatMul', `y${i}`, [y, w]);
  net.output(y);
  return net.bytes();
}

describe('engine ort', () => {
  it('computes on another thread: timers go on', async () => {
    const x = randomTensor([1500, 1500], 1);
    const session = await openOrt(readGraph(slowModel()), { threads: 1 });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const begin = performance.now();
    await session.run({ x });
    const took = performance.now() - begin;
    clearInterval(timer);
    await session.release();
    assert.ok(ticks > took / 20, `${ticks} ticks in ${took} ms`);
  });

  it('does not touch feeds, and takes parts of larger buffers', async () => {
    const net = new NetworkBuilder();
    net.output(net.node('Relu', 'y', [net.input('x', [2])]));
    const session = await openOrt(readGraph(net.bytes()), { threads: 1 });
    const all = Float32Array.from([1, 2, 3, 4, 5]);
    const { y } = await session.run({ x: new Tensor('float32', all.subarray(2, 4), [2]) });
    assert.deepEqual([...(y.data as Float32Array)], [3, 4]);
    assert.deepEqual([...all], [1, 2, 3, 4, 5]);
    await session.release();
    await session.release();
  });

  it('gives out large and small results together', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [300]);
    for (const op of ['ReduceMax', 'Relu', 'ReduceMin']) {
      net.output(net.node(op, op, [x], op === 'Relu' ? {} : { keepdims: int(0) }));
    }
    const session = await openOrt(readGraph(net.bytes()), { threads: 1 });
    const data = Float32Array.from({ length: 300 }, (_, i) => i - 7);
    const results = await session.run({ x: new Tensor('float32', data, [300]) });
    await session.release();
    const found = Object.entries(results).map(([name, result]) => [name, [...(result.data as Float32Array)]]);
    assert.deepEqual(Object.fromEntries(found), {
      ReduceMax: [292],
      Relu: [...data.map((v) => Math.max(0, v))],
      ReduceMin: [-7],
    });
  });

  it('rejects with what onnxruntime says', async () => {
    const net = new NetworkBuilder();
    net.output(net.node('Nonsense', 'y', [net.input('x', [2])]));
    await assert.rejects(openOrt(readGraph(net.bytes()), { threads: 1 }), /Nonsense/);
  });

  it('stops between samples', async () => {
    const controller = new AbortController();
    let asked = 0;
    function* samples() {
      for (let i = 0; i < 1000; i++) {
        asked++;
        yield { x: randomTensor([1500, 1500], i) };
      }
    }
    const aborted = quantize(slowModel(), {
      mode: 'static',
      engine: 'ort',
      calibration: samples(),
      signal: controller.signal,
    });
    // Only a free event loop gets here before the thousandth sample.
    setTimeout(() => controller.abort(new Error('enough')), 50);
    await assert.rejects(aborted, /enough/);
    assert.ok(asked < 10, `${asked} samples`);
  });
});
