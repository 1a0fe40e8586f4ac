/** Metrics on values that can be checked by hand. */
import assert from 'node:assert/strict';
import { cosineSimilarity, maxAbsError, sqnr } from '../../lib/report/metrics';

describe('metrics', () => {
  it('sqnr is 20 dB per decade of error', () => {
    assert.ok(Math.abs(sqnr([3, 4], [3.3, 4.4]) - 20) < 1e-9);
    assert.ok(Math.abs(sqnr(Float32Array.of(100, 0), Float32Array.of(101, 0)) - 40) < 1e-9);
    assert.equal(sqnr([1, 2], [1, 2]), Number.POSITIVE_INFINITY);
    assert.equal(sqnr([0, 0], [1, 0]), Number.NEGATIVE_INFINITY);
    assert.equal(sqnr([], []), Number.POSITIVE_INFINITY);
  });

  it('cosineSimilarity compares directions', () => {
    assert.ok(Math.abs(cosineSimilarity([1, 2, 3], [2, 4, 6]) - 1) < 1e-12);
    assert.equal(cosineSimilarity([1, 0], [0, 1]), 0);
    assert.equal(cosineSimilarity([1, 0], [-2, 0]), -1);
    assert.equal(cosineSimilarity([0, 0], [0, 0]), 1);
    assert.equal(cosineSimilarity([0, 0], [1, 0]), 0);
  });

  it('maxAbsError finds the largest difference, and NaN', () => {
    assert.equal(maxAbsError([1, -5, 3], [1, -2, 4]), 3);
    assert.equal(maxAbsError([], []), 0);
    assert.ok(Number.isNaN(maxAbsError([1, Number.NaN, 3], [1, 2, 9])));
  });

  it('refuses tensors of different sizes', () => {
    for (const metric of [sqnr, cosineSimilarity, maxAbsError]) {
      assert.throws(() => metric([1, 2], [1]), { code: 'ERR_Q8_SHAPE_MISMATCH' });
    }
  });
});
