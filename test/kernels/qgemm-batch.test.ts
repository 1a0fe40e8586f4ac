/** Batches of products, and float A quantized on the way: against the definition, bit by bit, on every instruction set. */
import assert from 'node:assert/strict';
import { cpuInfo, packWeights, qgemm, qgemmAsync } from '../../lib/kernels/index';
import { packWeightsFor } from '../../lib/kernels/packed-weights';
import { Random, referenceAccumulators, referenceDequantize, roundHalfEven } from './reference-qgemm';

const { fround } = Math;

function randomCodes(length: number, random: Random): Uint8Array {
  return Uint8Array.from({ length }, () => random.below(256));
}

function randomFloats(length: number, random: Random): Float32Array {
  return Float32Array.from({ length }, () => (random.below(2001) - 700) / 128);
}

/** reference/operators: scale, zero point and codes of a run of floats. */
function quantize(x: Float32Array): { scale: number; zeroPoint: number } {
  let low = 0;
  let high = 0;
  for (const value of x) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const scale = high === low ? 1 : fround(fround(high - low) / 255);
  return { scale, zeroPoint: roundHalfEven(Math.min(255, Math.max(0, fround(0 - fround(low / scale))))) };
}

function codeOf(x: number, { scale, zeroPoint }: { scale: number; zeroPoint: number }): number {
  return roundHalfEven(Math.min(255 - zeroPoint, Math.max(-zeroPoint, fround(x / scale)))) + zeroPoint;
}

describe('qgemm with a batch', () => {
  for (const transposeB of [false, true]) {
    it(`multiplies each pair, with strides and shared matrices, transposeB ${transposeB}`, () => {
      const random = new Random(11);
      for (const [batch, m, n, k] of [
        [0, 3, 4, 5],
        [1, 3, 4, 5],
        [3, 1, 17, 9],
        [7, 5, 33, 31],
        [16, 64, 48, 70],
        [5, 0, 3, 4],
        [4, 2, 3, 0],
      ]) {
        for (const gap of [0, 3]) {
          const strideA = m * k + gap;
          const strideB = random.below(3) === 0 ? 0 : k * n + gap;
          const strideC = m * n + gap;
          const a = randomCodes(Math.max(0, batch * strideA), random);
          const b = new Int8Array(randomCodes(Math.max(k * n, batch * strideB), random).buffer);
          const bZeroPoint = 5;
          const options = { batch, m, n, k, a, strideA, b, strideB, strideC, transposeB, aZeroPoint: 3, bZeroPoint };
          const c = qgemm(options);
          assert.equal(c.length, batch === 0 || m * n === 0 ? 0 : (batch - 1) * strideC + m * n);
          for (let i = 0; i < batch; i++) {
            const expected = referenceAccumulators({
              ...{ m, n, k, lda: k, ldb: transposeB ? k : n, transposeB, aZeroPoint: 3 },
              a: a.subarray(i * strideA),
              b: b.subarray(i * strideB),
              bZeroPoint: () => bZeroPoint,
            });
            assert.deepEqual(c.subarray(i * strideC, i * strideC + m * n), expected, `product ${i}`);
          }
        }
      }
    });
  }

  it('leaves the gaps of the output alone', () => {
    const out = new Int32Array(11).fill(77);
    qgemm({ batch: 2, m: 2, n: 2, k: 1, a: new Uint8Array(4), b: new Int8Array(4), out, strideC: 6 });
    assert.deepEqual([...out], [0, 0, 0, 0, 77, 77, 0, 0, 0, 0, 77]);
  });

  it('shares packed weights, and runs off the event loop', async () => {
    const random = new Random(3);
    const [batch, m, n, k] = [9, 4, 20, 11];
    const a = randomCodes(batch * m * k, random);
    const b = randomCodes(k * n, random);
    const packed = packWeights({ k, n, b });
    const c = await qgemmAsync({ batch, m, n, k, a, b: packed });
    assert.deepEqual(c, qgemm({ m: batch * m, n, k, a, b }));
  });

  it('refuses what does not fit', () => {
    const good = { batch: 2, m: 2, n: 3, k: 4, a: new Uint8Array(16), b: new Int8Array(24) };
    const refuses = (options: object, message: RegExp) => assert.throws(() => qgemm({ ...good, ...options }), message);
    assert.doesNotThrow(() => qgemm(good));
    refuses({ batch: -1 }, /for batch/);
    refuses({ batch: 3 }, /24 elements \(3 of 2x4\) for a/);
    refuses({ strideA: 9 }, /17 elements .* for a/);
    refuses({ strideB: 13 }, /25 elements .* for b/);
    refuses({ strideA: 1.5 }, /for strideA/);
    refuses({ strideC: 5 }, />= m \* n \(6\) for strideC/);
    refuses({ out: new Int32Array(11) }, /at least 12 elements/);
    refuses({ batch: 2 ** 40, strideA: 0, strideB: 0, m: 2 ** 12 }, /for a of|2\^53/);
    refuses({ b: packWeights({ k: 4, n: 3, b: new Int8Array(12) }), strideB: 12 }, /for strideB/);
  });
});

describe('qgemm of floats', () => {
  for (const isa of cpuInfo().isa.supported) {
    for (const mode of ['tensor', 'row'] as const) {
      it(`quantizes by ${mode} and multiplies exactly, ${isa}`, () => {
        const random = new Random(29);
        for (const [m, n, k] of [
          [1, 1, 1],
          [3, 17, 5],
          [9, 40, 67],
          [33, 16, 128],
          [2, 3, 0],
        ]) {
          for (const withZeroPoint of [false, true]) {
            const a = randomFloats(m * k, random);
            if (m > 2) a.fill(0, k, 2 * k);
            const b = randomCodes(k * n, random);
            const zeroPoint = withZeroPoint ? randomCodes(n, random) : undefined;
            const scale = Float32Array.from({ length: n }, () => (1 + random.below(99)) / 4096);
            const bias = random.below(2) ? randomFloats(n, random) : undefined;
            const packed = packWeightsFor(isa, { k, n, b, zeroPoint });
            const c = qgemm({ m, n, k, a, b: packed, dynamicQuantize: mode, dequantize: { scale, bias } });
            for (let i = 0; i < m; i++) {
              const row = a.subarray(i * k, (i + 1) * k);
              const quantization = quantize(mode === 'row' ? row : a);
              const codes = Uint8Array.from(row, (x) => codeOf(x, quantization));
              const acc = referenceAccumulators({
                ...{ m: 1, n, k, a: codes, lda: k, b, ldb: n, transposeB: false },
                aZeroPoint: quantization.zeroPoint,
                bZeroPoint: (j) => zeroPoint?.[j] ?? 0,
              });
              for (let j = 0; j < n; j++) {
                const expected = referenceDequantize(acc[j], fround(quantization.scale * scale[j]), bias?.[j]);
                assert.equal(c[i * n + j], expected, `${m}x${n}x${k} at ${i},${j}`);
              }
            }
          }
        }
      });
    }
  }

  it('takes one range for the whole batch, strides and unpacked weights included', () => {
    const random = new Random(5);
    const [batch, m, n, k, lda] = [6, 3, 8, 16, 20];
    const a = randomFloats(batch * m * lda, random);
    const b = new Int8Array(randomCodes(batch * k * n, random).buffer);
    const dense = new Float32Array(batch * m * k);
    for (let row = 0; row < batch * m; row++) dense.set(a.subarray(row * lda, row * lda + k), row * k);
    const dequantize = { scale: 0.25 };
    const c = qgemm({ batch, m, n, k, a, lda, b, dynamicQuantize: 'tensor', dequantize });
    const quantization = quantize(dense);
    const codes = Uint8Array.from(dense, (x) => codeOf(x, quantization));
    const scaleOfBoth = { scale: fround(quantization.scale * 0.25) };
    const aZeroPoint = quantization.zeroPoint;
    assert.deepEqual(c, qgemm({ batch, m, n, k, a: codes, b, aZeroPoint, dequantize: scaleOfBoth }));
  });

  it('survives NaN and infinity', () => {
    const a = Float32Array.of(Number.NaN, Infinity, -Infinity, 1);
    for (const dynamicQuantize of ['tensor', 'row'] as const) {
      const c = qgemm({ m: 2, n: 1, k: 2, a, b: new Int8Array(2), dynamicQuantize, dequantize: { scale: 1 } });
      assert.equal(c.length, 2);
    }
  });

  it('refuses floats without a mode, and what contradicts it', () => {
    const good = { m: 1, n: 1, k: 2, a: new Float32Array(2), b: new Int8Array(2), dequantize: { scale: 1 } };
    const refuses = (options: object, message: RegExp) =>
      assert.throws(() => qgemm({ ...good, dynamicQuantize: 'row', ...options }), message);
    refuses({ dynamicQuantize: undefined }, /Uint8Array or Int8Array for a/);
    refuses({ dynamicQuantize: 'column' }, /'tensor' or 'row'/);
    refuses({ a: new Uint8Array(2) }, /Float32Array for a/);
    refuses({ dequantize: undefined }, /Expected dequantize with dynamicQuantize/);
    refuses({ aZeroPoint: 1 }, /no aZeroPoint/);
    refuses({ a: new Float32Array(3) }, /2 elements/);
    refuses({ out: good.a }, /memory apart/);
  });
});
