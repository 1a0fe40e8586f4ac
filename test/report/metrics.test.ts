/** Metrics on values that can be checked by hand. */
import assert from 'node:assert/strict';
import { ErrorSums, errorsOf, sqnr } from '../../lib/report/metrics';

describe('metrics', () => {
  it('sqnr is 20 dB per decade of error', () => {
    assert.ok(Math.abs(sqnr([3, 4], [3.3, 4.4]) - 20) < 1e-9);
    assert.ok(Math.abs(sqnr(Float32Array.of(100, 0), Float32Array.of(101, 0)) - 40) < 1e-9);
    assert.equal(sqnr([1, 2], [1, 2]), Number.POSITIVE_INFINITY);
    assert.equal(sqnr([0, 0], [1, 0]), Number.NEGATIVE_INFINITY);
    assert.equal(sqnr([], []), Number.POSITIVE_INFINITY);
  });

  it('cosine compares directions', () => {
    assert.ok(Math.abs(errorsOf([1, 2, 3], [2, 4, 6]).cosine - 1) < 1e-12);
    assert.equal(errorsOf([1, 0], [0, 1]).cosine, 0);
    assert.equal(errorsOf([1, 0], [-2, 0]).cosine, -1);
    assert.equal(errorsOf([0, 0], [0, 0]).cosine, 1);
    assert.equal(errorsOf([0, 0], [1, 0]).cosine, 0);
  });

  it('maxAbsError finds the largest difference, and NaN', () => {
    assert.equal(errorsOf([1, -5, 3], [1, -2, 4]).maxAbsError, 3);
    assert.equal(errorsOf([], []).maxAbsError, 0);
    assert.ok(Number.isNaN(errorsOf([1, Number.NaN, 3], [1, 2, 9]).maxAbsError));
  });

  it('sums over samples are those of one long tensor', () => {
    const sums = new ErrorSums();
    sums.add([1, 2], [1.5, 2]);
    sums.add([], []);
    sums.add([-3], [-2]);
    assert.deepEqual(sums.errors, errorsOf([1, 2, -3], [1.5, 2, -2]));
    sums.add([1], [Number.NaN]);
    sums.add([1], [9]);
    assert.ok(Number.isNaN(sums.errors.maxAbsError));
  });

  it('refuses tensors of different sizes', () => {
    assert.throws(() => errorsOf([1, 2], [1]), { code: 'ERR_Q8_SHAPE_MISMATCH' });
  });
});
