/** Percentile, entropy and mean squared error on histograms, against their definitions applied to the raw values. */
import assert from 'node:assert/strict';
import { distributionRange, entropyRange, mseRange, percentileRange } from '../../../lib/quantize/observers/clipping';
import { Histogram } from '../../../lib/quantize/observers/histogram';
import { quantizeCode } from '../../../lib/ops/families/quantization';
import { type Range, scaleOfRange } from '../../../lib/quantize/scale';
import { DISTRIBUTIONS, normal, ragged, relu } from './distributions';
import { random } from '../networks';

function histogramOf(values: Float32Array, bins = 2048, bound?: number): Histogram {
  const histogram = new Histogram(bins, bound);
  for (const tensor of ragged(values)) histogram.add(tensor);
  return histogram;
}

/** Of the raw values when they become codes and values again. */
function meanSquaredError(values: Float32Array, range: Range, symmetric: boolean): number {
  const { scale, zeroPoint } = scaleOfRange(range, { dtype: 'uint8', symmetric });
  let sum = 0;
  for (const value of values) {
    const error = (quantizeCode(value, scale, zeroPoint, 0, 255) - zeroPoint) * scale - value;
    sum += error * error;
  }
  return sum / values.length;
}

/** A grid of clips of both ends; of both by the same fraction where one end is zero anyway. */
function ranges({ min, max }: Histogram): Range[] {
  const fractions = Array.from({ length: 20 }, (_, i) => (i + 1) / 20);
  return fractions.flatMap((f) => (min < 0 && max > 0 ? fractions : [f]).map((g) => ({ min: min * f, max: max * g })));
}

/** KL as in the definition, candidate by candidate and bin by bin. */
function entropyByDefinition(histogram: Histogram, levels: number): number {
  const { half, counts, width, max } = histogram.magnitudes();
  const bins = Array.from(counts.subarray(half, half + Math.min(half, Math.floor(max / width) + 1)));
  bins[0] = bins[1];
  const all = bins.reduce((sum, count) => sum + count);
  let [best, bestEnd] = [Number.POSITIVE_INFINITY, bins.length];
  for (let end = levels; end <= bins.length; end++) {
    const inside = bins.slice(0, end);
    const mass = inside.reduce((sum, count) => sum + count);
    const p = inside.slice();
    p[end - 1] += all - mass;
    const q = new Array<number>(end).fill(0);
    for (let level = 0; level < levels; level++) {
      const [from, to] = [level, level + 1].map((edge) => Math.floor((edge * end) / levels));
      const group = inside.slice(from, to);
      const occupied = group.filter((count) => count > 0).length;
      const sum = group.reduce((total, count) => total + count, 0);
      for (let i = from; i < to; i++) if (inside[i] > 0) q[i] = sum / occupied;
    }
    let divergence = 0;
    p.forEach((count, i) => {
      if (count > 0) divergence += (count / all) * Math.log(count / all / (q[i] / mass));
    });
    if (divergence < best - 1e-12) [best, bestEnd] = [divergence, end];
  }
  return Math.min(max, bestEnd * width);
}

describe('percentileRange', () => {
  for (const [name, values] of DISTRIBUTIONS) {
    it(`cuts half of the rest at either end: ${name}`, () => {
      const histogram = histogramOf(values);
      const { min, max } = percentileRange(histogram, 99, false);
      const share = (test: (x: number) => boolean) => values.filter(test).length / values.length;
      assert.ok(share((x) => x < min - histogram.width) <= 0.005 + 1e-4);
      assert.ok(share((x) => x < min + histogram.width) >= 0.005 - 1e-4);
      assert.ok(share((x) => x > max + histogram.width) <= 0.005 + 1e-4);
      assert.ok(share((x) => x > max - histogram.width) >= 0.005 - 1e-4 || max === 0);
    });
  }

  it('keeps everything at 100', () => {
    const histogram = histogramOf(DISTRIBUTIONS[1][1]);
    assert.deepEqual(percentileRange(histogram, 100, false), { min: histogram.min, max: histogram.max });
  });

  it('takes the percentile of magnitudes for symmetric codes', () => {
    const values = normal(10_000, 9).map((x) => (x > 0 ? 3 * x : x));
    const histogram = histogramOf(values);
    const bound = values.map(Math.abs).sort()[9900];
    const { min, max } = percentileRange(histogram, 99, true);
    assert.ok(Math.abs(max - bound) <= 2 * histogram.width, `${max}, expected ${bound}`);
    assert.ok(min >= -max && min === histogram.min);
  });
});

describe('entropyRange', () => {
  for (const [name, values] of DISTRIBUTIONS) {
    it(`is the candidate that the definition prefers: ${name}`, () => {
      const most = values.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      for (const histogram of [histogramOf(values, 512), histogramOf(values, 512, most)]) {
        const bound = entropyByDefinition(histogram, histogram.min < 0 ? 128 : 256);
        assert.deepEqual(entropyRange(histogram, false), {
          min: Math.max(histogram.min, -bound),
          max: Math.min(histogram.max, bound),
        });
      }
    });
  }

  it('differs from the extremes where there are outliers', () => {
    const histogram = histogramOf(DISTRIBUTIONS[1][1]);
    const { max } = entropyRange(histogram, true);
    assert.ok(max < 0.3 * histogram.max && max > 2, `${max} of ${histogram.max}`);
  });
});

describe('mseRange', () => {
  for (const [name, values] of DISTRIBUTIONS) {
    for (const symmetric of [false, true]) {
      it(`comes close to the least error of all ranges: ${name}${symmetric ? ', symmetric' : ''}`, () => {
        const histogram = histogramOf(values);
        const found = meanSquaredError(values, mseRange(histogram, symmetric), symmetric);
        const errors = ranges(histogram).map((range) => meanSquaredError(values, range, symmetric));
        const least = Math.min(...errors);
        assert.ok(found <= 1.05 * least, `${found}, but ${least} is possible`);
      });
    }
  }

  it('weighs saturation: outliers of weight stay', () => {
    const histogram = histogramOf(Float32Array.from({ length: 1000 }, (_, i) => (i % 2 ? 100 : 1)));
    assert.ok(mseRange(histogram, false).max > 95);
  });
});

describe('empty and zero tensors', () => {
  it('have a range of zero', () => {
    for (const histogram of [
      histogramOf(new Float32Array(0)),
      histogramOf(new Float32Array(5)),
      histogramOf(new Float32Array(5), 2048, 0),
    ]) {
      for (const choose of [mseRange, entropyRange]) {
        const { min, max } = choose(histogram, false);
        assert.deepEqual([min + 0, max + 0], [0, 0]);
      }
      assert.deepEqual(percentileRange(histogram, 99.99, false), { min: 0, max: 0 });
    }
  });
});

describe('distributionRange', () => {
  /** Laplace about 0 with mean deviation 1. */
  function laplace(count: number, seed: number): Float32Array {
    const next = random(seed);
    return Float32Array.from({ length: count }, () => {
      const u = (next() + 1) / 2;
      return u < 0.5 ? Math.log(2 * u + 1e-12) : -Math.log(2 - 2 * u + 1e-12);
    });
  }

  function about(values: Float32Array) {
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const of = (f: (x: number) => number): number => values.reduce((sum, x) => sum + f(x - mean), 0) / values.length;
    return { mean, standard: Math.sqrt(of((x) => x * x)), absolute: of(Math.abs) };
  }

  const close = (actual: number, expected: number): void =>
    assert.ok(Math.abs(actual - expected) < 0.01 * Math.abs(expected), `${actual}, not ${expected}`);

  it('covers 3.92 standard deviations of a normal distribution, and 9.89 mean deviations of a heavy one', () => {
    const bell = normal(50_000, 1).map((x) => 2 * x + 1);
    // Beyond what is covered on either side, but too few to make the tails heavy.
    bell[17] = 1 + 6 * about(bell).standard;
    bell[18] = 1 - 6 * about(bell).standard;
    const { mean, standard } = about(bell);
    const range = distributionRange(histogramOf(bell), false);
    close(range.max - mean, 3.92 * standard);
    close(mean - range.min, 3.92 * standard);
    const heavy = laplace(200_000, 2);
    const { max, min } = distributionRange(histogramOf(heavy), true);
    close(max, 9.89 * about(heavy).absolute);
    assert.equal(min, -max);
  });

  it('loses hardly more than the best range where the distribution is one of these', () => {
    for (const values of [normal(20_000, 1), relu(normal(20_000, 3)), laplace(20_000, 5), relu(laplace(20_000, 6))]) {
      const histogram = histogramOf(values);
      const least = Math.min(...ranges(histogram).map((range) => meanSquaredError(values, range, false)));
      const error = meanSquaredError(values, distributionRange(histogram, false), false);
      assert.ok(error < 1.25 * least, `${error}, at least ${least}`);
    }
  });

  it('never leaves what was seen, holds zero, and takes nothing for zero', () => {
    for (const [name, values] of DISTRIBUTIONS) {
      const histogram = histogramOf(values);
      for (const symmetric of [false, true]) {
        const { min, max } = distributionRange(histogram, symmetric);
        assert.ok(min >= histogram.min && max <= histogram.max, name);
        assert.ok(max > min, name);
      }
    }
    assert.deepEqual(distributionRange(histogramOf(new Float32Array(9)), false), { min: 0, max: 0 });
  });
});
