/** Scales, zero points and codes against values made by ONNX Runtime's Python quantizer. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { guardBiasRange, quantizeWeight, rangeOf, scaleOfRange, weightScales } from '../../lib/quantize/scale';
import { quantizeBias } from '../../lib/passes/qdq-pairs';
import type { CodeDType, QuantizedDType } from '../../lib/tensor/dtype';

function fixture<T>(name: string): T {
  return JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'fixtures', 'ort-quantizer', name), 'utf8')) as T;
}

interface ParamsRow {
  rmin: number;
  rmax: number;
  type: QuantizedDType;
  symmetric: boolean;
  scale: number;
  zeroPoint: number;
}

interface WeightsRow {
  name: string;
  dims: number[];
  data: string;
  results: {
    type: QuantizedDType;
    symmetric: boolean;
    axis: number | null;
    scales: number[];
    zeroPoints: number[];
    codes: string;
  }[];
}

describe('scaleOfRange', () => {
  const { rows } = fixture<{ rows: ParamsRow[] }>('params.json');

  it(`gives the bits of onnxruntime's compute_scale_zp in ${rows.length} cases`, () => {
    assert.ok(rows.length > 50);
    for (const row of rows) {
      const range = { min: row.rmin, max: row.rmax };
      const got = scaleOfRange(range, { dtype: row.type, symmetric: row.symmetric });
      assert.deepEqual({ ...row, ...got }, { ...row, scale: Math.fround(row.scale) });
    }
  });

  it('widens a range to minRealRange before making it symmetric', () => {
    assert.deepEqual(scaleOfRange({ min: 0, max: 0 }, { dtype: 'uint8', minRealRange: 0.5 }), {
      scale: Math.fround(0.5 / 255),
      zeroPoint: 0,
    });
    assert.deepEqual(scaleOfRange({ min: 0, max: 0 }, { dtype: 'int8', symmetric: true, minRealRange: 0.5 }), {
      scale: Math.fround(1 / 254),
      zeroPoint: 0,
    });
  });

  it('spreads a reduced range over 7 bits', () => {
    assert.deepEqual(scaleOfRange({ min: -1, max: 1 }, { dtype: 'int8', symmetric: true, reduceRange: true }), {
      scale: Math.fround(2 / 128),
      zeroPoint: 0,
    });
    assert.deepEqual(scaleOfRange({ min: 0, max: 127 }, { dtype: 'uint8', reduceRange: true }), {
      scale: 1,
      zeroPoint: 0,
    });
  });
});

describe('weights', () => {
  const { rows } = fixture<{ rows: WeightsRow[] }>('weights.json');

  for (const { name, dims, data, results } of rows) {
    it(`${name} gets the scales, zero points and codes of onnxruntime's quantize_data`, () => {
      const bytes = Buffer.from(data, 'base64');
      const weights = new Float32Array(new Uint8Array(bytes).buffer);
      for (const { type, symmetric, axis, scales, zeroPoints, codes } of results) {
        const at = axis === null ? undefined : { axis };
        const { scale, zeroPoint } = weightScales(weights, dims, at, { dtype: type, symmetric });
        assert.deepEqual(scale, Float32Array.from(scales), `${type} axis ${axis}: scales`);
        assert.deepEqual([...zeroPoint], zeroPoints, `${type} axis ${axis}: zero points`);
        const got = Buffer.from(quantizeWeight(weights, dims, at, { scale, zeroPoint, dtype: type }).buffer).toString(
          'base64',
        );
        assert.equal(got, codes, `${type} axis ${axis}: codes`);
      }
    });
  }

  it('have one zero point for all channels when symmetric, a channel of zeros included', () => {
    const { zeroPoint } = weightScales(
      Float32Array.of(1, -2, 0, 0),
      [2, 2],
      { axis: 0 },
      { dtype: 'uint8', symmetric: true },
    );
    assert.deepEqual([...zeroPoint], [128, 128]);
  });

  it('are split into channels along an inner axis', () => {
    const { scale } = weightScales(
      Float32Array.of(127, -1, 254, 0.5),
      [2, 2],
      { axis: 1 },
      { dtype: 'int8', symmetric: true },
    );
    assert.deepEqual([...scale], [2, Math.fround(1 / 127)]);
  });
});

describe('every integer type', () => {
  type Params = [scale: number, zeroPoint: number];
  const { settings, floors, ranges, matrix, weights } = fixture<{
    settings: [CodeDType, boolean, boolean, number | null][];
    floors: (number | null)[];
    ranges: { rmin: number; rmax: number; params: Params[]; restricted: Params[] }[];
    matrix: { dims: number[]; data: string };
    weights: {
      type: CodeDType;
      symmetric: boolean;
      axis: number | null;
      block: number;
      scales: number[];
      zeroPoints: number[];
      codes: string;
    }[];
  }>('types.json');

  it(`has the scales of onnxruntime, reduced and floored, in ${ranges.length * settings.length} cases`, () => {
    assert.ok(ranges.length * settings.length > 700);
    for (const { rmin: min, rmax: max, params } of ranges) {
      for (const [i, [dtype, symmetric, reduceRange, floor]] of settings.entries()) {
        const { scale, zeroPoint } = scaleOfRange(
          { min, max },
          { dtype, symmetric, reduceRange, minRealRange: floor ?? undefined },
        );
        assert.deepEqual([scale, zeroPoint], [Math.fround(params[i][0]), params[i][1]], `${min} ${max} ${settings[i]}`);
      }
    }
  });

  it('has restricted zero points as onnxruntime has them', () => {
    for (const { rmin: min, rmax: max, restricted } of ranges) {
      for (const [i, floor] of floors.entries()) {
        const options = { dtype: 'uint8', restrictZeroPoint: true, minRealRange: floor ?? undefined } as const;
        const { scale, zeroPoint } = scaleOfRange({ min, max }, options);
        assert.deepEqual(
          [scale, zeroPoint],
          [Math.fround(restricted[i][0]), restricted[i][1]],
          `${min} ${max} ${floor}`,
        );
      }
    }
  });

  const data = new Float32Array(new Uint8Array(Buffer.from(matrix.data, 'base64')).buffer);
  for (const { type: dtype, symmetric, axis, block, scales, zeroPoints, codes } of weights) {
    it(`gives onnxruntime's codes: ${dtype}${symmetric ? ' symmetric' : ''}, axis ${axis}, block ${block}`, () => {
      const granularity = axis === null ? undefined : { axis, block };
      const { scale, zeroPoint } = weightScales(data, matrix.dims, granularity, {
        dtype,
        symmetric,
        zeroChannelsApart: true,
      });
      assert.deepEqual(scale, Float32Array.from(scales));
      assert.deepEqual([...zeroPoint], zeroPoints);
      const got = quantizeWeight(data, matrix.dims, granularity, { scale, zeroPoint, dtype });
      assert.equal(Buffer.from(got.buffer).toString('base64'), codes);
    });
  }
});

describe('biases', () => {
  it('are int32 at the float32 product of input and weight scale', () => {
    const { codes, scale } = quantizeBias(Float32Array.of(1, -0.5), Math.fround(0.1), Float32Array.of(0.5, 0.25));
    const expected = Float32Array.of(Math.fround(0.1) * 0.5, Math.fround(0.1) * 0.25);
    assert.deepEqual(scale, expected);
    assert.deepEqual([...codes], [Math.round(1 / expected[0]), Math.round(-0.5 / expected[1])]);
  });

  it('round half to even', () => {
    assert.deepEqual([...quantizeBias(Float32Array.of(0.5, 1.5, -2.5), 1, Float32Array.of(1)).codes], [0, 2, -2]);
  });

  it('that would not fit int32 enlarge the scale of their channel, and of no other', () => {
    const scale = Float32Array.of(1e-6, 1e-6);
    const guarded = guardBiasRange(scale, 1e-6, Float32Array.of(1, 1e-6));
    assert.equal(guarded[1], scale[1]);
    const { codes } = quantizeBias(Float32Array.of(1, 1e-6), 1e-6, guarded);
    assert.ok(codes[0] > 2 ** 31 * 0.999 && codes[0] < 2 ** 31 - 1, `${codes[0]}`);
  });

  it('that fit leave the scales alone', () => {
    const scale = Float32Array.of(0.01);
    assert.equal(guardBiasRange(scale, 0.01, Float32Array.of(3)), scale);
  });
});

describe('rangeOf', () => {
  it('leaves out NaN and infinities', () => {
    assert.deepEqual(rangeOf(Float32Array.of(Number.NaN, 1, Number.NEGATIVE_INFINITY, -2, Number.POSITIVE_INFINITY)), {
      min: -2,
      max: 1,
    });
    assert.deepEqual(rangeOf(new Float32Array(0)), { min: 0, max: 0 });
    assert.deepEqual(rangeOf(Float32Array.of(Number.POSITIVE_INFINITY)), { min: 0, max: 0 });
  });
});
