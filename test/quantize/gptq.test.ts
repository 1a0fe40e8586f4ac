/** GPTQ on layers whose inputs depend on each other: products with them change less than by rounding to nearest. */
import assert from 'node:assert/strict';
import { quantizeBlocks } from '../../lib/quantize/blocks';
import { compensationOf, productError, roundRow, SecondMoments, trustIn } from '../../lib/quantize/gptq';
import { compareModels, quantize, Tensor } from '../../lib/index';
import { outputSqnr } from '../../lib/report/analysis';
import { Turns } from '../../lib/quantize/turns';
import { runOrt } from './judges';
import { NetworkBuilder, random, randomTensor } from './networks';

/** Rows of `size` numbers that are mixtures of a few, with noise. */
function dependentRows(rows: number, size: number, seed: number): Float32Array {
  const mixture = randomTensor([8, size], 7).data;
  const next = random(seed);
  const x = new Float32Array(rows * size);
  for (let r = 0; r < rows; r++) {
    for (let m = 0; m < 8; m++) {
      const share = next();
      for (let k = 0; k < size; k++) x[r * size + k] += share * mixture[m * size + k];
    }
    for (let k = 0; k < size; k++) x[r * size + k] += 0.2 * next();
  }
  return x;
}

function momentsOf(x: Float32Array, size: number): SecondMoments {
  const moments = new SecondMoments(size);
  moments.add(x);
  return moments;
}

describe('SecondMoments', () => {
  it('sums products of rows, however they arrive', () => {
    const [rows, size] = [11, 5];
    const x = dependentRows(rows, size, 3);
    const moments = new SecondMoments(size);
    moments.add(x.subarray(0, 2 * size));
    moments.add(x.subarray(2 * size));
    assert.equal(moments.rows, rows);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let sum = 0;
        for (let r = 0; r < rows; r++) sum += x[r * size + i] * x[r * size + j];
        assert.ok(Math.abs(moments.at(i, j) - sum) < 1e-12);
      }
    }
  });
});

describe('SecondMoments, centered', () => {
  it('are those of rows less their mean', () => {
    const [rows, size] = [9, 4];
    const x = dependentRows(rows, size, 4).map((v) => v + 2);
    const centered = new SecondMoments(size, true);
    centered.add(x);
    const mean = Float64Array.from({ length: size }, (_, k) => {
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += x[r * size + k];
      return sum / rows;
    });
    const apart = new SecondMoments(size);
    apart.add(x.map((v, i) => v - mean[i % size]));
    for (let i = 0; i < size; i++) {
      assert.ok(Math.abs(centered.mean(i) - mean[i]) < 1e-12);
      for (let j = 0; j < size; j++) assert.ok(Math.abs(centered.at(i, j) - apart.at(i, j)) < 1e-5);
    }
  });
});

describe('compensationOf', () => {
  it('gives the factor of the inverse: U^T U (H as far as it is trusted + damping) = 1, in the order of the diagonal', async () => {
    const size = 12;
    const moments = momentsOf(dependentRows(40, size, 5), size);
    const { order, spread } = await compensationOf(moments, new Turns());
    const diagonal = [...order].map((i) => moments.at(i, i));
    assert.deepEqual(
      diagonal,
      [...diagonal].sort((a, b) => b - a),
    );
    const damping = (0.01 * diagonal.reduce((a, b) => a + b, 0)) / size;
    const inverse = (i: number, j: number): number => {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += spread[k * size + i] * spread[k * size + j];
      return sum;
    };
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let sum = 0;
        for (let k = 0; k < size; k++) {
          const trusted = moments.at(order[k], order[j]) * (k === j ? 1 : trustIn(moments));
          sum += inverse(i, k) * (trusted + (k === j ? damping : 0));
        }
        assert.ok(Math.abs(sum - (i === j ? 1 : 0)) < 1e-9, `${i}, ${j}: ${sum}`);
        if (j < i) assert.equal(spread[i * size + j], 0);
      }
    }
  });

  it('is there for inputs that are zero, equal, or fewer than their number', async () => {
    for (const x of [new Float32Array(32), new Float32Array(32).fill(3), dependentRows(1, 32, 1)]) {
      const { spread } = await compensationOf(momentsOf(x, 32), new Turns());
      assert.ok(spread.every(Number.isFinite));
    }
  });
});

describe('roundRow', () => {
  const size = 96;
  const x = dependentRows(400, size, 11);
  const moments = momentsOf(x, size);

  for (const bits of [2, 3, 4, 8]) {
    it(`changes products less than rounding to nearest, on inputs not seen too: ${bits} bits`, async () => {
      const compensation = await compensationOf(moments, new Turns());
      const unseen = momentsOf(dependentRows(200, size, 12), size);
      const w = randomTensor([20, size], 13).data;
      const nearest = quantizeBlocks(w, 20, size, 32, { bits, symmetric: false, algorithm: 'rtn' });
      const { scales, blocks } = nearest;
      const zeros = nearest.zeroPoints as Uint8Array;
      let [before, after, unseenBefore, unseenAfter] = [0, 0, 0, 0];
      for (let r = 0; r < 20; r++) {
        const block = (k: number) => r * blocks + Math.floor(k / 32);
        const grid = { scale: (k: number) => scales[block(k)], zeroPoint: (k: number) => zeros[block(k)] };
        const codes = new Uint8Array(size);
        const row = w.subarray(r * size, (r + 1) * size);
        roundRow(row, compensation, { ...grid, low: 0, high: 2 ** bits - 1 }, codes);
        const difference = (of: Uint8Array) =>
          Float64Array.from(of, (c, k) => (c - grid.zeroPoint(k)) * grid.scale(k) - row[k]);
        const old = difference(nearest.codes.slice(r * size, (r + 1) * size));
        before += productError(old, moments);
        after += productError(difference(codes), moments);
        unseenBefore += productError(old, unseen);
        unseenAfter += productError(difference(codes), unseen);
      }
      assert.ok(after < 0.35 * before, `${before} -> ${after}`);
      assert.ok(unseenAfter < 0.4 * unseenBefore, `${unseenBefore} -> ${unseenAfter}`);
    });
  }

  it('rounds to nearest where inputs have nothing to do with each other', async () => {
    const apart = new SecondMoments(4);
    apart.add(Float32Array.from([1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4]));
    const codes = new Int8Array(4);
    const grid = { scale: () => 0.5, zeroPoint: () => 1, low: -8, high: 7 };
    roundRow(Float32Array.of(0.3, -0.7, 100, 0.2), await compensationOf(apart, new Turns()), grid, codes);
    assert.deepEqual([...codes], [2, 0, 7, 1]);
  });
});

describe("weightOnly, algorithm 'gptq'", () => {
  it('keeps more of a model than other algorithms, on samples not seen', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', ['N', 96]);
    const hidden = net.node('Relu', 'hidden', [net.node('MatMul', 'first', [x, net.weight('w1', [96, 64], 0.2)])]);
    net.output(net.node('MatMul', 'second', [hidden, net.weight('w2', [64, 32], 0.2)]));
    const model = net.bytes();
    const feeds = (seed: number) =>
      [0, 1, 2, 3].map((i) => ({ x: new Tensor('float32', dependentRows(64, 96, seed + i), [64, 96]) }));
    for (const bits of [4, 8] as const) {
      const score = async (algorithm: 'rtn' | 'kquant' | 'gptq') => {
        const calibration = algorithm === 'gptq' ? feeds(50) : undefined;
        const result = await quantize(model, { mode: 'weightOnly', bits, algorithm, calibration });
        await runOrt(result.model, feeds(90)[0]);
        return outputSqnr(await compareModels(model, result.model, feeds(90)));
      };
      const [nearest, squares, rounded] = [await score('rtn'), await score('kquant'), await score('gptq')];
      assert.ok(rounded > Math.max(nearest, squares) + 3, `${bits} bits: ${nearest}, ${squares}, ${rounded} dB`);
    }
  });

  it('makes one matrix of tied weights, and takes a signal and a source of samples that is empty', async () => {
    const net = new NetworkBuilder();
    const w = net.weight('w', [32, 32]);
    net.output(net.node('MatMul', 'z', [net.node('MatMul', 'y', [net.input('x', [4, 32]), w]), w]));
    const calibration = [{ x: randomTensor([4, 32], 1) }];
    const options = { mode: 'weightOnly', algorithm: 'gptq' } as const;
    const { report } = await quantize(net.bytes(), { ...options, calibration });
    assert.deepEqual(
      report.tensors.map(({ name }) => name),
      ['w'],
    );
    await assert.rejects(quantize(net.bytes(), { ...options, calibration: [] }), /at least one feed/);
    const signal = AbortSignal.abort(new Error('enough'));
    await assert.rejects(quantize(net.bytes(), { ...options, calibration, signal }), /enough/);
  });
});
