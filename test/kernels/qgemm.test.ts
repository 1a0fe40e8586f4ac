/** qgemm against its definition: every instruction set of this CPU, all type pairs, ragged shapes, worst-case values. */
import assert from 'node:assert/strict';
import type { Codes } from '../../binding';
import { cpuInfo, packWeights, qgemm, type RequantizeOptions } from '../../lib/kernels/index';
import { packWeightsFor } from '../../lib/kernels/packed-weights';
import {
  Random,
  type ReferenceProblem,
  referenceAccumulators,
  referenceDequantize,
  referenceRequantize,
} from './reference-qgemm';

type CodeType = 'u8' | 's8';
const TYPES: [CodeType, CodeType][] = [
  ['u8', 's8'],
  ['u8', 'u8'],
  ['s8', 's8'],
  ['s8', 'u8'],
];
const SIZES = [0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 47, 48, 49, 63, 64, 65, 127, 130, 257];
const FILLS = ['random', 'random', 'lowest', 'highest', 'alternating'] as const;

const { isa } = cpuInfo();

function range(type: CodeType): [number, number] {
  return type === 'u8' ? [0, 255] : [-128, 127];
}

/** Codes inside a larger buffer: an odd byte offset, shared or not. */
function makeCodes(type: CodeType, length: number, fill: (typeof FILLS)[number], random: Random): Codes {
  const offset = random.below(5);
  const buffer = random.below(4) === 0 ? new SharedArrayBuffer(length + 8) : new ArrayBuffer(length + 8);
  const codes = type === 'u8' ? new Uint8Array(buffer, offset, length) : new Int8Array(buffer, offset, length);
  const [low, high] = range(type);
  for (let i = 0; i < length; i++) {
    if (fill === 'random') codes[i] = low + random.below(256);
    else if (fill === 'alternating') codes[i] = i % 2 ? low : high;
    else codes[i] = fill === 'lowest' ? low : high;
  }
  return codes;
}

interface Case extends ReferenceProblem {
  name: string;
  zeroPoint: number | Codes | undefined;
}

function makeCase(m: number, n: number, k: number, [typeA, typeB]: [CodeType, CodeType], random: Random): Case {
  const transposeB = random.below(3) === 0;
  const lda = k + random.pick([0, 0, 1, 13]);
  const ldb = (transposeB ? k : n) + random.pick([0, 0, 3, 17]);
  const a = makeCodes(typeA, Math.max(0, (m - 1) * lda + k), random.pick(FILLS), random);
  const rows = transposeB ? n : k;
  const b = makeCodes(typeB, Math.max(0, (rows - 1) * ldb + (transposeB ? k : n)), random.pick(FILLS), random);
  const aZeroPoint = random.pick([...range(typeA), 0, typeA === 'u8' ? 128 : -3]);
  const zeroPoints = [undefined, 0, ...range(typeB), typeB === 'u8' ? 128 : 7, makeCodes(typeB, n, 'random', random)];
  const zeroPoint = random.pick(zeroPoints);
  const bZeroPoint = (j: number) => (typeof zeroPoint === 'object' ? zeroPoint[j] : (zeroPoint ?? 0));
  const name = `${m}x${n}x${k} lda ${lda} ldb ${ldb} transposeB ${transposeB} za ${aZeroPoint} zb ${typeof zeroPoint}`;
  return { name, m, n, k, a, lda, b, ldb, transposeB, aZeroPoint, zeroPoint, bZeroPoint };
}

function packCase(isaName: string, { k, n, b, ldb, transposeB, zeroPoint }: Case) {
  return packWeightsFor(isaName, { k, n, b, ldb, transposeB, zeroPoint });
}

/** Every size in every dimension, the others drawn. */
function makeCases(types: [CodeType, CodeType]): Case[] {
  const random = new Random(types[0].charCodeAt(0) * 7 + types[1].charCodeAt(0));
  return SIZES.flatMap((size) => [
    makeCase(size, random.pick(SIZES), random.pick(SIZES), types, random),
    makeCase(random.pick(SIZES), size, random.pick(SIZES), types, random),
    makeCase(random.pick(SIZES), random.pick(SIZES), size, types, random),
    makeCase(1 + random.below(30), 1 + random.below(70), 1 + random.below(70), types, random),
  ]);
}

for (const types of TYPES) {
  const cases = makeCases(types);
  const expected = cases.map(referenceAccumulators);

  for (const name of isa.compiled) {
    const lacks = !isa.supported.includes(name);
    describe(`qgemm ${types.join('')} on ${name}${lacks ? ' (skipped: this CPU cannot run it)' : ''}`, () => {
      const test = lacks ? it.skip : it;

      test('gives the exact int32 of the definition', () => {
        cases.forEach((c, i) => {
          using b = packCase(name, c);
          const result = qgemm({ m: c.m, n: c.n, k: c.k, a: c.a, lda: c.lda, b, aZeroPoint: c.aZeroPoint });
          assert.deepEqual(result, expected[i], c.name);
        });
      });

      test('requantizes in registers as the definition does', () => {
        const random = new Random(11);
        cases.forEach((c, i) => {
          const dtype = random.pick(['uint8', 'int8'] as const);
          const [low, high] = range(dtype === 'uint8' ? 'u8' : 's8');
          const requantize: RequantizeOptions = {
            dtype,
            // Powers of two make exact ties frequent.
            scale: random.pick([
              0.5,
              1 / 1024,
              Float32Array.from({ length: c.n }, () => (1 + random.below(900)) / 65536),
            ]),
            zeroPoint: random.pick([low, high, 3]),
            bias: random.pick([undefined, Int32Array.from({ length: c.n }, () => random.below(20001) - 10000)]),
            min: random.pick([low, low + 9]),
            max: random.pick([high, high - 20]),
          };
          using b = packCase(name, c);
          const call = { m: c.m, n: c.n, k: c.k, a: c.a, lda: c.lda, b, aZeroPoint: c.aZeroPoint, requantize };
          assert.deepEqual([...qgemm(call)], requantized(expected[i], c.n, requantize), c.name);
        });
      });

      test('dequantizes in registers as the definition does', () => {
        const random = new Random(12);
        cases.forEach((c, i) => {
          const scale = random.pick([0.0123, Float32Array.from({ length: c.n }, () => (1 + random.below(900)) / 3e5)]);
          const bias = random.pick([undefined, Float32Array.from({ length: c.n }, () => random.below(2001) / 7 - 100)]);
          using b = packCase(name, c);
          const dequantize = { scale, bias };
          const result = qgemm({ m: c.m, n: c.n, k: c.k, a: c.a, lda: c.lda, b, aZeroPoint: c.aZeroPoint, dequantize });
          const wanted = Float32Array.from(expected[i], (acc, at) =>
            referenceDequantize(acc, typeof scale === 'number' ? scale : scale[at % c.n], bias?.[at % c.n]),
          );
          assert.deepEqual(result, wanted, c.name);
        });
      });
    });
  }

  it(`qgemm ${types.join('')} gives the same without packed weights, on one thread and on two`, () => {
    cases.forEach((c, i) => {
      const { m, n, k, a, lda, b, ldb, transposeB, aZeroPoint, zeroPoint: bZeroPoint } = c;
      const result = qgemm({ m, n, k, a, lda, b, ldb, transposeB, aZeroPoint, bZeroPoint, threads: 1 + (i % 2) });
      assert.deepEqual(result, expected[i], c.name);
    });
  });
}

function requantized(accumulators: Int32Array, n: number, options: RequantizeOptions): number[] {
  const { scale, zeroPoint = 0, bias, min = 0, max = 0 } = options;
  return Array.from(accumulators, (acc, i) => {
    const j = i % n;
    const biased = (acc + (bias?.[j] ?? 0)) | 0;
    return referenceRequantize(biased, typeof scale === 'number' ? scale : scale[j], zeroPoint, min, max);
  });
}

describe('qgemm output stages', () => {
  for (const name of isa.supported) {
    it(`rounds exact ties to even on ${name}`, () => {
      // Accumulators -8..8 times 0.5.
      const n = 17;
      using b = packWeightsFor(name, { k: 1, n, b: Int8Array.from({ length: n }, (_, j) => j - 8) });
      const requantize = { scale: 0.5, dtype: 'int8' } as const;
      const result = qgemm({ m: 1, n, k: 1, a: Uint8Array.of(1), b, requantize });
      assert.deepEqual([...result], [-4, -4, -3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4, 4]);
    });

    it(`saturates huge products and survives extreme scales on ${name}`, () => {
      const k = 3000;
      const b = packWeightsFor(name, { k, n: 2, b: Int8Array.from({ length: 2 * k }, (_, i) => (i % 2 ? 127 : -128)) });
      const a = new Uint8Array(k).fill(255);
      for (const [scale, wanted] of [
        [3e38, [0, 255]],
        [1e-45, [128, 128]],
      ] as const) {
        const requantize = { scale, dtype: 'uint8', zeroPoint: 128 } as const;
        assert.deepEqual([...qgemm({ m: 1, n: 2, k, a, b, requantize })], wanted);
      }
    });

    it(`wraps beyond int32 on ${name}`, () => {
      const k = 70000;
      const a = new Uint8Array(k).fill(255);
      const b = new Int8Array(k).fill(-128);
      using packed = packWeightsFor(name, { k, n: 1, b });
      assert.equal(qgemm({ m: 1, n: 1, k, a, b: packed })[0], (-255 * 128 * k) | 0);
    });

    it(`splits large products over threads without changing a bit on ${name}`, () => {
      const [m, n, k] = [301, 211, 190];
      const random = new Random(5);
      const a = makeCodes('s8', m * k, 'random', random);
      using b = packWeightsFor(name, { k, n, b: makeCodes('u8', k * n, 'random', random), zeroPoint: 77 });
      const call = { m, n, k, a, b, aZeroPoint: -5 };
      assert.deepEqual(qgemm({ ...call, threads: 8 }), qgemm({ ...call, threads: 1 }));
    });
  }

  it('writes into out, which may be longer, and nowhere else', () => {
    const out = new Int32Array(10).fill(-7);
    const result = qgemm({ m: 2, n: 3, k: 1, a: Uint8Array.of(1, 2), b: Int8Array.of(1, 2, 3), out });
    assert.equal(result, out);
    assert.deepEqual([...out], [1, 2, 3, 2, 4, 6, -7, -7, -7, -7]);
  });

  it('has types for each kind of output', () => {
    const base = { m: 1, n: 1, k: 1, a: Uint8Array.of(2), b: packWeights({ k: 1, n: 1, b: Int8Array.of(3) }) };
    const int32: Int32Array = qgemm(base);
    const float32: Float32Array = qgemm({ ...base, dequantize: { scale: 0.5 } });
    const uint8: Uint8Array = qgemm({ ...base, requantize: { scale: 1, dtype: 'uint8' } });
    const int8: Int8Array = qgemm({ ...base, requantize: { scale: 1, dtype: 'int8' } });
    assert.deepEqual([int32[0], float32[0], uint8[0], int8[0]], [6, 3, 6, 6]);
  });
});
