/** qgemm against its definition for shapes, strides, types and weights that fast-check draws, and shrinks when they fail. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Codes } from '../../binding';
import { cpuInfo, qgemm } from '../../lib/kernels/index';
import { packWeightsFor } from '../../lib/kernels/packed-weights';
import { Random, referenceAccumulators } from './reference-qgemm';

/** Largest magnitude of weights around the middle of their type: any, bounded pairs, some pairs beyond the bound. */
const MAGNITUDES = [128, 64, 66] as const;

const problems = fc.record({
  m: fc.integer({ min: 0, max: 40 }),
  n: fc.integer({ min: 0, max: 90 }),
  k: fc.integer({ min: 0, max: 150 }),
  extraA: fc.nat({ max: 9 }),
  extraB: fc.nat({ max: 9 }),
  aSigned: fc.boolean(),
  bSigned: fc.boolean(),
  transposeB: fc.boolean(),
  zeroPoints: fc.tuple(fc.nat({ max: 255 }), fc.option(fc.nat({ max: 255 }))),
  magnitude: fc.constantFrom(...MAGNITUDES),
  largestA: fc.constantFrom(255, 255, 3),
  threads: fc.constantFrom(1, 2),
  seed: fc.nat(),
});

function codes(isSigned: boolean, length: number, next: () => number): Codes {
  const values = isSigned ? new Int8Array(length) : new Uint8Array(length);
  for (let i = 0; i < length; i++) values[i] = next();
  return values;
}

describe('qgemm property', () => {
  for (const isa of cpuInfo().isa.supported) {
    it(`equals the definition (${isa})`, () => {
      const property = fc.property(problems, (p) => {
        const { m, n, k, transposeB, threads } = p;
        const random = new Random(p.seed);
        const lda = k + p.extraA;
        const ldb = (transposeB ? k : n) + p.extraB;
        // Mostly the largest code: the sums of products are then as large as they get.
        const a = codes(p.aSigned, Math.max(0, (m - 1) * lda + k), () => {
          const code = random.below(3) ? p.largestA : random.below(p.largestA + 1);
          return p.aSigned ? code - 128 : code;
        });
        const rows = transposeB ? n : k;
        const b = codes(p.bSigned, Math.max(0, (rows - 1) * ldb + (transposeB ? k : n)), () => {
          const weight = random.below(2 * p.magnitude) - p.magnitude;
          return p.bSigned ? weight : weight + 128;
        });
        const [za, zb] = p.zeroPoints;
        const aZeroPoint = p.aSigned ? za - 128 : za;
        const bZeroPoint = zb === null ? (p.bSigned ? 0 : 128) : p.bSigned ? zb - 128 : zb;
        const expected = referenceAccumulators({
          ...{ m, n, k, a, lda, b, ldb, transposeB, aZeroPoint },
          bZeroPoint: () => bZeroPoint,
        });
        using weights = packWeightsFor(isa, { k, n, b, ldb, transposeB, zeroPoint: bZeroPoint });
        const made = qgemm({ m, n, k, a, lda, b: weights, aZeroPoint, threads });
        assert.deepEqual(made, expected);
      });
      fc.assert(property, { numRuns: 150 });
    }).timeout(60_000);
  }
});
