/** Streaming histograms against the raw values. */
import assert from 'node:assert/strict';
import { Histogram } from '../../../lib/quantize/observers/histogram';
import { DISTRIBUTIONS, normal, ragged } from './distributions';

const BINS = 512;

function histogramOf(tensors: readonly Float32Array[]): Histogram {
  const histogram = new Histogram(BINS);
  for (const tensor of tensors) histogram.add(tensor);
  return histogram;
}

describe('Histogram', () => {
  for (const [name, values] of DISTRIBUTIONS) {
    it(`counts every value where it belongs: ${name}`, () => {
      const { counts, half, width, zeros, nonZeros, min, max } = histogramOf(ragged(values));
      const expected = new Float64Array(counts.length);
      for (const value of values) if (value !== 0) expected[half + Math.floor(value / width)]++;
      assert.deepEqual(counts, expected);
      assert.equal(zeros, values.filter((x) => x === 0).length);
      assert.equal(nonZeros + zeros, values.length);
      const sorted = values.slice().sort();
      assert.deepEqual([min, max], [sorted[0] + 0, sorted[sorted.length - 1] + 0]);
      const bound = Math.max(-min, max);
      assert.ok(bound / width >= BINS && bound / width < 2 * BINS, `${bound / width} bins`);
    });

    it(`finds quantiles to a bin's width: ${name}`, () => {
      const histogram = histogramOf(ragged(values));
      const sorted = values.slice().sort();
      for (const share of [0, 0.0005, 0.01, 0.3, 0.5, 0.77, 0.9995, 1]) {
        const at = share * sorted.length;
        // Between the values of the ranks on both sides.
        const low = sorted[Math.max(0, Math.ceil(at) - 1)];
        const high = sorted[Math.min(sorted.length - 1, Math.floor(at))];
        const quantile = histogram.quantile(share);
        assert.ok(
          quantile >= low - histogram.width && quantile <= high + histogram.width,
          `share ${share}: ${quantile}, expected ${low} to ${high}`,
        );
      }
      assert.equal(histogram.quantile(0), histogram.min);
      assert.equal(histogram.quantile(1), histogram.max);
    });
  }

  for (const [name, values] of DISTRIBUTIONS) {
    it(`divides a bound that is known exactly: ${name}`, () => {
      const bound = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const histogram = new Histogram(BINS, bound);
      for (const tensor of ragged(values)) histogram.add(tensor);
      const { counts, half, width } = histogram;
      assert.equal(half, BINS);
      assert.ok(Math.abs(width * BINS - bound) < 1e-9 * bound);
      const expected = new Float64Array(counts.length);
      for (const value of values) if (value !== 0) expected[half + Math.floor(value / width)]++;
      assert.deepEqual(counts, expected);
      const folded = histogram.magnitudes();
      assert.equal(folded.half, half);
      assert.equal(folded.width, width);
      assert.equal(folded.counts[half + 3], counts[half + 3] + counts[half - 4]);
      const beyond = Float32Array.of(1.01 * bound);
      assert.throws(() => histogram.add(beyond), /same samples in the second pass/);
    });
  }

  it('does not depend on order', () => {
    const values = DISTRIBUTIONS[1][1];
    const growing = values.slice().sort((a, b) => Math.abs(a) - Math.abs(b));
    const [a, b] = [histogramOf([values]), histogramOf(ragged(growing))];
    assert.deepEqual(a.counts, b.counts);
    assert.equal(a.width, b.width);
  });

  it('takes magnitudes of any size', () => {
    const tiny = 2 ** -149;
    const histogram = histogramOf([Float32Array.of(tiny, -tiny, 0, -3e38, 1, 3.4e38)]);
    assert.equal(histogram.nonZeros, 5);
    assert.equal(
      histogram.counts.reduce((sum, count) => sum + count),
      5,
    );
    assert.equal(histogram.max, Math.fround(3.4e38));
    assert.equal(histogramOf([Float32Array.of(tiny)]).max, tiny);
  });

  it('folds magnitudes', () => {
    const values = normal(1000, 8);
    const folded = histogramOf([values]).magnitudes();
    const direct = histogramOf([values.map(Math.abs)]);
    assert.deepEqual(folded.counts, direct.counts);
    assert.equal(folded.max, direct.max);
  });

  it('leaves out what is not finite, and tells', () => {
    const histogram = histogramOf([Float32Array.of(1, Number.NaN, Number.NEGATIVE_INFINITY, 2)]);
    assert.deepEqual([histogram.min, histogram.max, histogram.nonZeros], [1, 2, 2]);
    assert.equal(histogram.sawNonFinite, true);
    assert.equal(histogramOf([Float32Array.of(1, 3e38)]).sawNonFinite, false);
  });

  it('is empty without values, and of zeros only', () => {
    for (const values of [[], [0, 0]]) {
      const histogram = histogramOf([Float32Array.from(values)]);
      assert.deepEqual([histogram.min, histogram.max, histogram.quantile(0.5)], [0, 0, 0]);
    }
  });
});
