/** Steps of dynamic quantization and attention against plain TypeScript, on every instruction set of this CPU. */
import assert from 'node:assert/strict';
import type { AttentionStep, Data, ProgramStep } from '../../binding';
import { dynamicQuantization, quantizeCode } from '../../lib/ops/families/quantization';
import { addon, codes, floats, ISAS, outputReference, Random, runStep, zeroPoint } from './harness';

const { fround } = Math;

function expectBits(step: ProgramStep, inputs: Data[], expected: Data, label: string): void {
  for (const isa of ISAS) {
    for (const threads of [1, 2]) {
      const y = new (expected.constructor as typeof Float32Array)(expected.length);
      assert.deepEqual(runStep(step, inputs, y, isa, threads), expected, `${label} on ${isa}, ${threads} threads`);
    }
  }
}

describe('program: dynamic quantization', () => {
  it('range, range_parameter and quantize_dynamic equal the definition', () => {
    const random = new Random(1);
    const tensors: Float32Array[] = [
      new Float32Array(5),
      Float32Array.of(3),
      Float32Array.of(-3, -1),
      Float32Array.of(1e-42, 0),
    ];
    for (const n of [1, 17, 4097, 100_003]) tensors.push(floats(n, random, 1 + random.below(9)));
    tensors.push(
      floats(5000, random).map(Math.abs),
      floats(5000, random).map((v) => -Math.abs(v)),
    );
    for (const x of tensors) {
      const low = x.reduce((a, b) => Math.min(a, b), 0);
      const high = x.reduce((a, b) => Math.max(a, b), 0);
      const range = Float32Array.of(low, high);
      expectBits({ op: 'range', x: 0, y: 1 }, [x], range, `range of ${x.length}`);
      const params = dynamicQuantization(x);
      expectBits({ op: 'range_parameter', x: 0, y: 1 }, [range], Float32Array.of(params.scale), 'scale');
      expectBits({ op: 'range_parameter', x: 0, y: 1 }, [range], Uint8Array.of(params.zeroPoint), 'zero point');
      const y = Uint8Array.from(x, (v) => quantizeCode(v, params.scale, params.zeroPoint, 0, 255));
      expectBits({ op: 'quantize_dynamic', x: 0, range: 1, y: 2 }, [x, range], y, `codes of ${x.length}`);
    }
  });

  it('qgemm_dynamic takes scale and zero point from buffers', () => {
    const random = new Random(2);
    for (let i = 0; i < 20; i++) {
      const [m, n, k] = [random.below(20), 1 + random.below(50), random.below(60)];
      const signed = random.below(2) === 0;
      const a = codes(signed, m * k, random);
      const b = codes(random.below(2) === 0, k * n, random);
      const zero = zeroPoint(signed, random);
      const zeros = signed ? Int8Array.of(zero) : Uint8Array.of(zero);
      const scale = Float32Array.from({ length: random.below(2) ? n : 1 }, () => (1 + random.below(99)) / 1000);
      const xScale = fround(0.013);
      const bias = random.below(2) ? floats(n, random) : null;
      const integer = random.below(3) === 0;
      const spec = integer
        ? ({ kind: 'int32', bias: null } as const)
        : ({ kind: 'dequantize', scale: scale.map((s) => xScale * s), bias } as const);
      const y = integer ? new Int32Array(m * n) : new Float32Array(m * n);
      for (let at = 0; at < y.length; at++) {
        let acc = 0;
        for (let j = 0; j < k; j++) acc += (a[Math.floor(at / n) * k + j] - zero) * b[j * n + (at % n)];
        y[at] = outputReference(acc, at % n, spec);
      }
      for (const isa of ISAS) {
        const weights = addon.packGemm(b, k, n, n, false, null, isa);
        const step: ProgramStep = {
          op: 'qgemm_dynamic',
          x: 0,
          xZeroPoint: 1,
          xScale: integer ? null : 2,
          y: 3,
          m,
          weights,
          output: integer ? { kind: 'int32', bias: null } : { kind: 'dequantize', scale, bias },
        };
        const actual = new (y.constructor as typeof Float32Array)(y.length);
        assert.deepEqual(runStep(step, [a, zeros, Float32Array.of(xScale)], actual, isa, 2), y, `case ${i} ${isa}`);
      }
    }
  });

  it('refuses to requantize, and a zero point of another dtype', () => {
    const weights = addon.packGemm(new Int8Array(4), 2, 2, 2, false, null);
    const good = { op: 'qgemm_dynamic', x: 0, xZeroPoint: 1, xScale: null, y: 2, m: 1, weights } as const;
    const run = (step: object, zero: Data) =>
      runStep(step as ProgramStep, [new Uint8Array(2), zero], new Uint8Array(2), ISAS[0]);
    const requantize = {
      kind: 'requantize',
      multiplier: Float32Array.of(1),
      bias: null,
      zeroPoint: 0,
      min: 0,
      max: 255,
    };
    assert.throws(() => run({ ...good, output: requantize }, new Uint8Array(1)), /'dequantize' or 'int32'/);
    assert.throws(() => run({ ...good, output: requantize }, new Int8Array(1)), /dtype of x/);
  });
});

/** softmax(q k' * scale + mask) v in double. */
function attend(step: AttentionStep, [q, k, v, mask, bias]: (Data | undefined)[]): Float64Array {
  const { batch, heads, length, keyLength, headSize, valueSize } = step;
  const y = new Float64Array(batch * length * heads * valueSize);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let r = 0; r < length; r++) {
        const scores = Array.from({ length: keyLength }, (_, t) => {
          if (step.causal && t > r + keyLength - length) return Number.NEGATIVE_INFINITY;
          let score = 0;
          for (let i = 0; i < headSize; i++) {
            const left = Number(q![step.qOffset + (b * length + r) * step.qStride + h * headSize + i]);
            score += left * Number(k![step.kOffset + (b * keyLength + t) * step.kStride + h * headSize + i]);
          }
          const row = step.maskKind === 'pairs' ? b * length + r : b;
          const isKept =
            !mask || (step.maskKind === 'lengths' ? t < Number(mask[b]) : Number(mask[row * keyLength + t]) > 0);
          const at = b * step.biasBatchStride + h * step.biasHeadStride + r * keyLength + t;
          return score * step.scale + (isKept ? 0 : step.maskValue) + (bias ? Number(bias[at]) : 0);
        });
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const sum = weights.reduce((left, right) => left + right, 0);
        for (let i = 0; i < valueSize; i++) {
          let value = 0;
          weights.forEach((weight, t) => {
            value += (weight / sum) * Number(v![step.vOffset + (b * keyLength + t) * step.vStride + h * valueSize + i]);
          });
          y[((b * length + r) * heads + h) * valueSize + i] = value;
        }
      }
    }
  }
  return y;
}

describe('program: attention', () => {
  it('equals the definition, with masks, bias and causality, and the same bits everywhere', () => {
    const random = new Random(3);
    for (let i = 0; i < 14; i++) {
      const [batch, heads, headSize, valueSize] = [
        1 + random.below(3),
        1 + random.below(4),
        1 + random.below(40),
        1 + random.below(20),
      ];
      const [length, extra] = [1 + random.below(i === 0 ? 200 : 80), random.below(3)];
      const keyLength = length + extra;
      const stride = heads * (2 * headSize + valueSize) + 3;
      const base = {
        op: 'attention',
        batch,
        heads,
        length,
        keyLength,
        headSize,
        valueSize,
        qOffset: 0,
        kOffset: heads * headSize,
        vOffset: 2 * heads * headSize,
        qStride: stride,
        kStride: stride,
        vStride: stride,
        scale: fround(1 / Math.sqrt(headSize)),
        causal: random.below(3) === 0,
        maskKind: (['keys', 'pairs', 'lengths'] as const)[random.below(3)],
        maskValue: -10000,
        biasBatchStride: random.below(2) ? heads * length * keyLength : 0,
        biasHeadStride: length * keyLength,
      } as const;
      const rows = floats(batch * keyLength * stride, random);
      const maskSize = { keys: batch * keyLength, pairs: batch * length * keyLength, lengths: batch }[base.maskKind];
      const mask = random.below(3)
        ? Int32Array.from({ length: maskSize }, (_, at) =>
            base.maskKind === 'lengths'
              ? random.below(keyLength + 3) - 1
              : // A query without any key would only show how scores are rounded beside -10000.
                Number(at % keyLength === 0 || random.below(2)),
          )
        : undefined;
      const bias = random.below(2) ? floats(batch * heads * length * keyLength, random) : undefined;
      const inputs: Data[] = [rows, ...(mask ? [mask] : []), ...(bias ? [bias] : [])];
      const step: AttentionStep = {
        ...base,
        q: 0,
        k: 0,
        v: 0,
        mask: mask ? 1 : null,
        bias: bias ? inputs.length - 1 : null,
        y: inputs.length,
      };
      const expected = attend(step, [rows, rows, rows, mask, bias]);
      let first: Float32Array | undefined;
      for (const isa of ISAS) {
        for (const threads of [1, 2]) {
          const y = runStep(step, inputs, new Float32Array(expected.length), isa, threads);
          first ??= y;
          assert.deepEqual(y, first, `bits of case ${i} on ${isa}`);
        }
      }
      expected.forEach((value, at) => {
        // Scores of up to a few hundred are exact to 1e-5 or so, and so are their exponentials, relatively.
        assert.ok(Math.abs(first![at] - value) <= 5e-4, `case ${i}, element ${at}: ${first![at]}, expected ${value}`);
      });
    }
  });

  it('refuses operands that are too short', () => {
    const step = {
      op: 'attention',
      q: 0,
      k: 0,
      v: 0,
      y: 1,
      batch: 1,
      heads: 2,
      length: 2,
      keyLength: 2,
      headSize: 2,
      valueSize: 2,
    };
    const rest = {
      qOffset: 0,
      kOffset: 4,
      vOffset: 8,
      scale: 1,
      causal: false,
      mask: null,
      maskKind: 'keys',
      maskValue: 0,
      bias: null,
      biasBatchStride: 0,
      biasHeadStride: 0,
    };
    const run = (stride: number, elements: number) =>
      runStep(
        { ...step, ...rest, qStride: stride, kStride: stride, vStride: stride } as ProgramStep,
        [new Float32Array(elements)],
        new Float32Array(8),
        ISAS[0],
      );
    assert.throws(() => run(12, 23), /at least 24 elements/);
    assert.throws(() => run(3, 24), /room for all heads/);
    run(12, 24);
  });
});
