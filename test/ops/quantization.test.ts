import assert from 'node:assert/strict';
import {
  codeTable,
  dynamicQuantization,
  quantizeCode,
  requantizeCode,
  requantizeMultipliers,
  roundHalfEven,
} from '../../lib/ops/families/quantization';
import { erf } from '../../lib/ops/families/special-functions';
import { Random } from './random';

describe('operators: scalar arithmetic of quantization', () => {
  it('rounds ties to even', () => {
    const cases = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994, 2 ** 31 + 0.5, -3.2, 3.7];
    assert.deepEqual(
      cases.map(roundHalfEven).map((v) => v + 0),
      [-2, -2, 0, 0, 2, 2, 0, 2 ** 31, -3, 4],
    );
    assert.ok(Number.isNaN(roundHalfEven(Number.NaN)));
    assert.equal(roundHalfEven(Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY);
  });

  it('decides ties before the zero point is added', () => {
    // 0.5 and 1.5 go to 0 and 2 whatever the parity of the zero point.
    for (const zeroPoint of [3, 4]) {
      assert.equal(quantizeCode(0.5, 1, zeroPoint, 0, 255), zeroPoint);
      assert.equal(quantizeCode(1.5, 1, zeroPoint, 0, 255), zeroPoint + 2);
      assert.equal(requantizeCode(1, 0.5, zeroPoint, 0, 255), zeroPoint);
      assert.equal(requantizeCode(3, 0.5, zeroPoint, 0, 255), zeroPoint + 2);
    }
  });

  it('saturates infinities and makes NaN the smallest code', () => {
    for (const [value, code] of [
      [Number.POSITIVE_INFINITY, 127],
      [Number.NEGATIVE_INFINITY, -128],
      [Number.NaN, -128],
      [1e38, 127],
    ]) {
      assert.equal(quantizeCode(value, 0.1, 5, -128, 127), code);
    }
    assert.equal(quantizeCode(1, 0, 5, -128, 127), 127);
  });

  it('divides instead of multiplying by a reciprocal', () => {
    const random = new Random(1);
    let different = 0;
    for (let i = 0; i < 20000; i++) {
      const scale = Math.fround(0.001 + random.next());
      const x = Math.fround((random.int(-100, 100) + 0.5) * scale);
      const exact = roundHalfEven(Math.max(-128, Math.min(127, Math.fround(x / scale))));
      assert.ok(quantizeCode(x, scale, 0, -128, 127) === exact);
      const reciprocal = Math.fround(1 / scale);
      if (roundHalfEven(Math.max(-128, Math.min(127, Math.fround(x * reciprocal)))) !== exact) different++;
    }
    assert.ok(different > 0, 'the cases tell the two apart');
  });

  it('multiplies scales left to right in float32', () => {
    const [m] = requantizeMultipliers(Math.fround(0.1), [Math.fround(0.3)], Math.fround(0.7));
    assert.equal(m, Math.fround(Math.fround(Math.fround(0.1) * Math.fround(0.3)) / Math.fround(0.7)));
  });

  it('indexes tables by byte pattern', () => {
    const x = { scale: 1, zeroPoint: 0, dtype: 'int8' } as const;
    const table = codeTable(x, { scale: 1, zeroPoint: 10, dtype: 'uint8' }, Math.abs);
    assert.equal(table[0xff], 11);
    assert.equal(table[0x80], 138);
    assert.equal(table[5], 15);
  });

  it('includes zero in dynamic ranges', () => {
    assert.deepEqual(dynamicQuantization(Float32Array.of(1, 2)), {
      scale: Math.fround(2 / 255),
      zeroPoint: 0,
      dtype: 'uint8',
    });
    assert.deepEqual(dynamicQuantization(Float32Array.of(-2, -1)), {
      scale: Math.fround(2 / 255),
      zeroPoint: 255,
      dtype: 'uint8',
    });
    for (const empty of [Float32Array.of(), Float32Array.of(0, 0)]) {
      assert.deepEqual(dynamicQuantization(empty), { scale: 1, zeroPoint: 0, dtype: 'uint8' });
    }
  });
});

describe('operators: special functions', () => {
  it('computes erf to 1e-14', () => {
    // Abramowitz and Stegun, table 7.1, and further digits from the series.
    for (const [x, value] of [
      [0, 0],
      [0.1, 0.1124629160182849],
      [0.5, 0.5204998778130465],
      [1, 0.8427007929497149],
      [2, 0.9953222650189527],
      [2.49, 0.9995707],
      [3, 0.9999779095030014],
      [5, 0.9999999999984626],
    ]) {
      const bound = x === 2.49 ? 1e-6 : 1e-14;
      assert.ok(Math.abs(erf(x) - value) < bound, `erf(${x}) = ${erf(x)}`);
      assert.ok(Math.abs(erf(-x) + value) < bound);
    }
    assert.equal(erf(Number.POSITIVE_INFINITY), 1);
    assert.ok(Number.isNaN(erf(Number.NaN)));
    assert.ok(Math.abs(erf(2.4999999) - erf(2.5000001)) < 1e-7, 'the two forms meet');
  });
});
