/** MinMax and moving averages against sums over all samples. */
import assert from 'node:assert/strict';
import { MinMaxObserver, MovingAverageObserver } from '../../../lib/quantize/observers/minmax';
import type { Observer } from '../../../lib/quantize/observers/observer';

function observe<T extends Observer>(observer: T, ...samples: number[][]): T {
  for (const sample of samples) observer.observe(Float32Array.from(sample));
  return observer;
}

describe('MinMaxObserver', () => {
  it('has the extremes of all samples', () => {
    const samples = [[1, -5], [], [9]];
    assert.deepEqual(observe(new MinMaxObserver(), ...samples).range, { min: -5, max: 9 });
    assert.deepEqual(observe(new MinMaxObserver(), []).range, { min: 0, max: 0 });
  });

  it('leaves out what is not finite, and tells', () => {
    const observer = observe(new MinMaxObserver(), [1, Number.NaN, 2], [Number.POSITIVE_INFINITY, -1]);
    assert.deepEqual(observer.range, { min: -1, max: 2 });
    assert.equal(observer.sawNonFinite, true);
  });
});

describe('MovingAverageObserver', () => {
  it('is the mean of the extremes up to 1 / momentum samples', () => {
    const observer = observe(new MovingAverageObserver(0.25), [-1, 2], [-2, 4], [], [-3, 12]);
    assert.deepEqual(observer.range, { min: -2, max: 6 });
  });

  it('is exponential from there', () => {
    const observer = observe(new MovingAverageObserver(0.5), [0, 4], [0, 8], [0, 10], [-8, 0]);
    // 4, 6, 8, 4 and 0, 0, 0, -4.
    assert.deepEqual(observer.range, { min: -4, max: 4 });
  });
});
