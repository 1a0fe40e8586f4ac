/** Programs as a whole: bad descriptions and buffers, concurrent and asynchronous runs, cancellation, profiles, workers. */
import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import type { Program, ProgramDescription, ProgramStep, QConvStep, RequantizeSpec } from '../../binding';
import { addon, codes, describeStep, ISAS, Random } from './harness';

const GEOMETRY = {
  ...{ batch: 1, height: 8, width: 8, channels: 16, outHeight: 8, outWidth: 8, kernelHeight: 3, kernelWidth: 3 },
  ...{ strideHeight: 1, strideWidth: 1, dilationHeight: 1, dilationWidth: 1, padTop: 1, padLeft: 1 },
};
const WEIGHTS = addon.packConv(new Int8Array(32 * 16 * 9).fill(3), [32, 16, 3, 3], 1, null);
const REQUANTIZE: RequantizeSpec = {
  ...{ kind: 'requantize', multiplier: Float32Array.of(0.01), bias: null, zeroPoint: 0, min: 0, max: 255 },
};
const QCONV: QConvStep = {
  ...{
    op: 'qconv',
    x: 0,
    y: 1,
    weights: WEIGHTS,
    xZeroPoint: 0,
    outChannels: 32,
    group: 1,
    output: REQUANTIZE,
    ...GEOMETRY,
  },
};

/** One large product, repeated. */
function heavyProgram(steps: number, m = 512): { program: Program; x: Uint8Array; y: Int32Array } {
  const weights = addon.packGemm(new Int8Array(512 * 512).fill(2), 512, 512, 512, false, null);
  const step = { op: 'qgemm', x: 0, y: 1, m, weights, xZeroPoint: 0, output: { kind: 'int32', bias: null } } as const;
  const x = new Uint8Array(m * 512).fill(3);
  const y = new Int32Array(m * 512);
  return { program: addon.createProgram({ ...describeStep(step, [x], y), steps: Array(steps).fill(step) }), x, y };
}

describe('program: descriptions', () => {
  const x = new Uint8Array(8 * 8 * 16);
  const y = new Uint8Array(8 * 8 * 32);
  const base = describeStep(QCONV, [x], y);
  const withStep = (change: object): ProgramDescription => ({
    ...base,
    steps: [{ ...QCONV, ...change } as ProgramStep],
  });

  it('accepts a consistent description', () => {
    addon.createProgram(base).runSync([x], [y], 0);
  });

  const bad: [string, unknown][] = [
    ['no object', 5],
    ['no steps', { buffers: [], arenaBytes: 0 }],
    ['negative arena', { ...base, arenaBytes: -1 }],
    ['fractional arena', { ...base, arenaBytes: 1.5 }],
    [
      'absurd arena position',
      { ...base, buffers: [{ kind: 'arena', offset: 64, elements: 1, dtype: 'uint8' }], steps: [] },
    ],
    [
      'unaligned arena position',
      { buffers: [{ kind: 'arena', offset: 8, elements: 1, dtype: 'uint8' }], steps: [], arenaBytes: 640 },
    ],
    [
      'elements beyond 2^53',
      { buffers: [{ kind: 'arena', offset: 0, elements: 2 ** 60, dtype: 'float64' }], steps: [], arenaBytes: 64 },
    ],
    ['unknown dtype', { ...base, buffers: [{ kind: 'input', index: 0, elements: 1, dtype: 'string' }] }],
    ['unknown kind', { ...base, buffers: [{ kind: 'place', index: 0, elements: 1, dtype: 'uint8' }] }],
    [
      'short constant',
      { ...base, buffers: [{ kind: 'constant', data: new Uint8Array(3), elements: 4, dtype: 'uint8' }] },
    ],
    [
      'constant of another type',
      { ...base, buffers: [{ kind: 'constant', data: new Int8Array(4), elements: 4, dtype: 'uint8' }] },
    ],
    ['step that is no object', { ...base, steps: [null] }],
    ['unknown op', withStep({ op: 'fft' })],
    ['buffer out of range', withStep({ x: 7 })],
    ['negative buffer', withStep({ x: -1 })],
    ['buffer NaN', withStep({ x: NaN })],
    ['input as output', withStep({ y: 0 })],
    ['image larger than its buffer', withStep({ height: 9 })],
    ['output larger than its buffer', withStep({ outHeight: 9 })],
    ['batch beyond its buffer', withStep({ batch: 2 })],
    ['sizes whose product overflows', withStep({ batch: 2 ** 31 - 1, height: 2 ** 31 - 1, width: 2 ** 31 - 1 })],
    ['a kernel that is not the weights', withStep({ kernelHeight: 5 })],
    ['channels that are not the weights', withStep({ channels: 8 })],
    ['zero stride', withStep({ strideWidth: 0 })],
    ['negative padding', withStep({ padTop: -1 })],
    ['missing property', withStep({ dilationWidth: undefined })],
    ['a string for a number', withStep({ padLeft: '1' })],
    ['another group', withStep({ group: 2 })],
    ['zero point beyond its type', withStep({ xZeroPoint: -1 })],
    ['no weights', withStep({ weights: {} })],
    ['weights of another kind', withStep({ weights: addon.packGemm(new Int8Array(4), 2, 2, 2, false, null) })],
    ['no output', withStep({ output: null })],
    ['unknown output', withStep({ output: { kind: 'float16' } })],
    ['output of another type', withStep({ output: { kind: 'int32', bias: null } })],
    ['multiplier NaN', withStep({ output: { ...REQUANTIZE, multiplier: Float32Array.of(NaN) } })],
    ['three multipliers', withStep({ output: { ...REQUANTIZE, multiplier: new Float32Array(3) } })],
    ['multiplier of another type', withStep({ output: { ...REQUANTIZE, multiplier: [1] } })],
    ['short bias', withStep({ output: { ...REQUANTIZE, bias: new Int32Array(31) } })],
    ['max beyond the type', withStep({ output: { ...REQUANTIZE, max: 256 } })],
    ['max below min', withStep({ output: { ...REQUANTIZE, min: 9, max: 8 } })],
  ];
  for (const [name, description] of bad) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => addon.createProgram(description as ProgramDescription),
        (error: Error & { code: string }) => /^ERR_Q8_/.test(error.code) && /Expected/.test(error.message),
      );
    });
  }

  it('says which step, operator and property is wrong', () => {
    const steps = [QCONV, { ...QCONV, padTop: -1 }];
    assert.throws(() => addon.createProgram({ ...base, steps }), /In step 1 \(qconv\): Expected .* for padTop\./);
  });

  it('refuses bad strides, indices and axes of every copying step', () => {
    const data = new Float32Array(12);
    const out = new Float32Array(12);
    const resample = (wrong: object) => ({
      ...{ op: 'resample', x: 0, y: 1, outer: 1, axisSize: 12, inner: 1, count: 1, taps: 2 },
      ...{ indices: Int32Array.of(0, 1), weights: Float32Array.of(0.5, 0.5) },
      ...wrong,
    });
    const steps = [
      { op: 'strided_copy', x: 0, y: 1, shape: [12], strides: [1], offset: 1 },
      { op: 'strided_copy', x: 0, y: 1, shape: [12], strides: [-1], offset: 10 },
      { op: 'strided_copy', x: 0, y: 1, shape: [13], strides: [0], offset: 0 },
      { op: 'strided_copy', x: 0, y: 1, shape: [2, 2], strides: [1], offset: 0 },
      { op: 'strided_copy', x: 0, y: 1, shape: [2, 2], strides: [2 ** 31, 2 ** 31], offset: 0 },
      { op: 'strided_copy', x: 0, y: 1, shape: Array(17).fill(1), strides: Array(17).fill(1), offset: 0 },
      { op: 'strided_copy', x: 0, y: 1, shape: Array(9).fill(2 ** 31 - 1), strides: Array(9).fill(0), offset: 0 },
      { op: 'gather', x: 0, y: 1, outer: 1, axisSize: 12, inner: 1, indices: Int32Array.of(12) },
      { op: 'gather', x: 0, y: 1, outer: 1, axisSize: 12, inner: 1, indices: Int32Array.of(-1) },
      { op: 'gather', x: 0, y: 1, outer: 1, axisSize: 13, inner: 1, indices: Int32Array.of(0) },
      resample({ indices: Int32Array.of(0, 12) }),
      resample({ indices: Int32Array.of(0) }),
      resample({ weights: Float32Array.of(1) }),
      resample({ taps: 0, indices: new Int32Array(0), weights: new Float32Array(0) }),
      resample({ taps: 65, indices: new Int32Array(65), weights: new Float32Array(65) }),
      resample({ axisSize: 13 }),
      resample({ count: 2 ** 40 }),
      { op: 'pad', x: 0, y: 1, shape: [12], begins: [1], outShape: [13], value: new Uint8Array(4) },
      { op: 'pad', x: 0, y: 1, shape: [13], begins: [0], outShape: [1], value: new Uint8Array(4) },
      { op: 'pad', x: 0, y: 1, shape: [12], begins: [0], outShape: [12], value: new Uint8Array(1) },
      { op: 'concat', inputs: [0, 0], y: 1, outer: 1, inners: [6, 7], tables: [null, null] },
      { op: 'concat', inputs: [0], y: 1, outer: 1, inners: [-1], tables: [null] },
      { op: 'concat', inputs: [0], y: 1, outer: 1, inners: [1], tables: [] },
      { op: 'concat', inputs: [0], y: 1, outer: 1, inners: [1], tables: [new Uint8Array(256)] },
      { op: 'binary', kind: 'add', a: 0, b: 0, y: 1, shape: [12], aStrides: [2], bStrides: [1] },
      { op: 'binary', kind: 'add', a: 0, b: 0, y: 1, shape: [12], aStrides: [-1], bStrides: [1] },
      { op: 'binary', kind: 'xor', a: 0, b: 0, y: 1, shape: [12], aStrides: [1], bStrides: [1] },
      {
        ...{ op: 'where', condition: 0, a: 0, b: 0, y: 1, shape: [12] },
        ...{ conditionStrides: [1], aStrides: [1], bStrides: [1] },
      },
      { op: 'unary', kind: 'sin', x: 0, y: 1, alpha: 0, beta: 0 },
      { op: 'chain', x: 0, y: 1, columns: 12, parts: [] },
      { op: 'chain', x: 0, y: 1, columns: 0, parts: [{ kind: 'abs', alpha: 0, beta: 0 }] },
      { op: 'chain', x: 0, y: 1, columns: 5, parts: [{ kind: 'abs', alpha: 0, beta: 0 }] },
      { op: 'chain', x: 0, y: 1, columns: 12, parts: [{ kind: 'add', alpha: 0, beta: 0 }] },
      { op: 'chain', x: 0, y: 1, columns: 12, parts: [{ kind: 'abs', operand: 0, operandFirst: true, form: 'dense' }] },
      {
        op: 'chain',
        x: 0,
        y: 1,
        columns: 12,
        parts: [{ kind: 'add', operand: 0, operandFirst: true, form: 'column' }],
      },
      { op: 'chain', x: 0, y: 1, columns: 12, parts: [{ kind: 'add', operand: 7, operandFirst: true, form: 'dense' }] },
      { op: 'softmax', x: 0, y: 1, outer: 2, axisSize: 7, inner: 1, guarded: false },
      { op: 'layer_norm', x: 0, scale: 0, bias: null, y: 1, outer: 1, size: 12, epsilon: NaN },
      { op: 'matmul', a: 0, b: 0, y: 1, m: 2, n: 2, k: 2, batchOffsets: Int32Array.of(0, 0, 9) },
      { op: 'matmul', a: 0, b: 0, y: 1, m: 2, n: 2, k: 2, batchOffsets: Int32Array.of(-1, 0, 0) },
      { op: 'matmul', a: 0, b: 0, y: 1, m: 2, n: 2, k: 2, batchOffsets: Int32Array.of(0, 0) },
      { op: 'max_pool', x: 0, y: 1, ...GEOMETRY },
      { op: 'lut', x: 0, y: 1, table: new Uint8Array(256) },
    ] as unknown as ProgramStep[];
    for (const step of steps) {
      assert.throws(
        () => addon.createProgram(describeStep(step, [data], out)),
        /In step 0 .*Expected/,
        JSON.stringify(step),
      );
    }
  });

  it('refuses run-time arrays that do not fit', () => {
    const program = addon.createProgram(base);
    const code = (expected: string) => (error: { code?: string }) => error.code === expected;
    assert.throws(() => program.runSync([], [y], 0), code('ERR_Q8_INVALID_ARGUMENT'));
    assert.throws(() => program.runSync([x.subarray(1)], [y], 0), code('ERR_Q8_SHAPE_MISMATCH'));
    assert.throws(() => program.runSync([new Int8Array(x.length)], [y], 0), code('ERR_Q8_UNSUPPORTED_DTYPE'));
    const detached = new Uint8Array(x.length);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    assert.throws(() => program.runSync([detached], [y], 0), code('ERR_Q8_DETACHED_BUFFER'));
    assert.throws(() => program.run([detached], [y], 0, null), code('ERR_Q8_DETACHED_BUFFER'));
    program.release();
    assert.throws(() => program.runSync([x], [y], 0), code('ERR_Q8_DISPOSED'));
  });

  it('keeps packed weights alive after their release', () => {
    const weights = addon.packConv(new Int8Array(32 * 16 * 9).fill(3), [32, 16, 3, 3], 1, null);
    const program = addon.createProgram(withStep({ weights }));
    const expected = new Uint8Array(y.length);
    const random = new Random(1);
    const input = codes(false, x.length, random) as Uint8Array;
    program.runSync([input], [expected], 1);
    weights.release();
    const again = new Uint8Array(y.length);
    program.runSync([input], [again], 1);
    assert.deepEqual(again, expected);
    assert.throws(() => addon.createProgram(withStep({ weights })), { code: 'ERR_Q8_DISPOSED' });
  });

  it('refuses weights whose dimensions do not hold together', () => {
    const w = new Int8Array(36);
    for (const [dims, group] of [
      [[1, 4, 3, 3, 1], 1],
      [[1, 4, 3], 1],
      [[1, 4, 3, 4], 1],
      [[0, 4, 3, 3], 1],
      [[1, 4, 3, 3], 0],
      [[1, 4, 3, 3], 2],
      [[2 ** 24, 2 ** 24, 2 ** 24, 2 ** 24], 1],
    ] as [number[], number][]) {
      assert.throws(() => addon.packConv(w, dims, group, null), /Expected/);
      assert.throws(() => addon.packConvF32(new Float32Array(36), dims, group), /Expected/);
    }
    assert.throws(() => addon.packConv(w, [1, 4, 3, 3], 1, new Int8Array(3)), /Expected 1 or M/);
    assert.throws(() => addon.packGemmF32(new Float32Array(4), 2, 3, false), /Expected k x n/);
    assert.throws(() => addon.packConv(w, [1, 4, 3, 3], 1, null, 'mmx'), { code: 'ERR_Q8_UNSUPPORTED_CPU' });
  });

  it('runs on the instruction set that it is asked for', () => {
    for (const isa of ISAS) addon.createProgram(base, isa).runSync([x], [y], 1);
    assert.throws(() => addon.createProgram(base, 'mmx'), { code: 'ERR_Q8_UNSUPPORTED_CPU' });
  });
});

describe('program: runs', () => {
  it('keeps concurrent runs apart', async () => {
    const random = new Random(9);
    const description: ProgramDescription = {
      buffers: [
        { kind: 'input', index: 0, dtype: 'uint8', elements: 1024 },
        { kind: 'arena', offset: 0, dtype: 'uint8', elements: 2048 },
        { kind: 'output', index: 0, dtype: 'float32', elements: 2048 },
      ],
      steps: [
        { ...QCONV, y: 1 },
        {
          ...{ op: 'dequantize', x: 1, y: 2, scale: Float32Array.of(0.5), zeroPoint: Int32Array.of(0) },
          ...{ outer: 1, axisSize: 1, inner: 2048 },
        },
      ],
      arenaBytes: 2048,
    };
    const program = addon.createProgram(description);
    const runs = Array.from({ length: 40 }, () => {
      const x = codes(false, 1024, random);
      const y = new Float32Array(2048);
      return { x, y, done: program.run([x], [y], 0, null) };
    });
    for (const { x, y, done } of runs) {
      await done;
      const expected = new Float32Array(2048);
      program.runSync([x], [expected], 1);
      assert.deepEqual(y, expected);
    }
  });

  it('lets timers tick while it runs', async () => {
    const { program, x, y } = heavyProgram(60);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const start = performance.now();
    await program.run([x], [y], 1, null);
    const elapsed = performance.now() - start;
    clearInterval(timer);
    assert.ok(ticks > elapsed / 20, `${ticks} ticks in ${elapsed} ms`);
    assert.ok(y.every((v) => v === 512 * 6));
  }).timeout(20_000);

  it('stops soon after cancel is set', async () => {
    const { program, x, y } = heavyProgram(2000);
    const cancel = new Int32Array(new SharedArrayBuffer(4));
    const run = program.run([x], [y], 0, cancel);
    const start = performance.now();
    setTimeout(() => Atomics.store(cancel, 0, 1), 20);
    await assert.rejects(run, { code: 'ERR_Q8_ABORTED' });
    assert.ok(performance.now() - start < 2000);
    await assert.rejects(program.run([x], [y], 0, Int32Array.of(1)), { code: 'ERR_Q8_ABORTED' });
  }).timeout(20_000);

  it('rejects with the error of the step that failed', async () => {
    const step = { op: 'gather_dynamic', x: 0, indices: 1, y: 2, outer: 1, axisSize: 2, inner: 1, count: 1 } as const;
    const x = new Float32Array(2);
    const y = new Float32Array(1);
    const program = addon.createProgram(describeStep(step, [x, new Int32Array(1)], y));
    await assert.rejects(
      program.run([x, Int32Array.of(2)], [y], 0, null),
      /In step 0 \(gather_dynamic\): .*received 2/,
    );
    await program.run([x, Int32Array.of(1)], [y], 0, null);
  });

  it('profiles each step', () => {
    const { program, x, y } = heavyProgram(3, 64);
    const times = program.profile([x], [y], 1);
    assert.equal(times.length, 3);
    assert.ok(
      times.every((t) => t > 1000 && t < 1e9),
      `${times}`,
    );
  });

  it('survives workers that end in the middle of a run', async () => {
    const source = `
      const { workerData } = require('node:worker_threads');
      const addon = require(workerData.file);
      const weights = addon.packGemm(new Int8Array(512 * 512), 512, 512, 512, false, null);
      const step = { op: 'qgemm', x: 0, y: 1, m: 512, weights, xZeroPoint: 0, output: { kind: 'int32', bias: null } };
      const program = addon.createProgram({
        buffers: [
          { kind: 'input', index: 0, dtype: 'uint8', elements: 512 * 512 },
          { kind: 'output', index: 0, dtype: 'int32', elements: 512 * 512 },
        ],
        steps: Array(1000).fill(step),
        arenaBytes: 0,
      });
      for (let i = 0; i < 3; i++) program.run([new Uint8Array(512 * 512)], [new Int32Array(512 * 512)], 0, null);
      require('node:worker_threads').parentPort.postMessage('running');
    `;
    const file = Object.keys(require.cache).find((path) => path.endsWith('q8.node'));
    for (let i = 0; i < 4; i++) {
      const worker = new Worker(source, { eval: true, workerData: { file } });
      await new Promise<void>((resolve, reject) => {
        worker.once('message', () => resolve());
        worker.once('error', reject);
      });
      await worker.terminate();
    }
    const { program, x, y } = heavyProgram(1);
    await program.run([x], [y], 0, null);
    assert.equal(y[0], 512 * 6);
  }).timeout(30_000);
});
