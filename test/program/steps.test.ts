/** Every other step kind against a plain TypeScript reference, on every instruction set of this CPU. */
import assert from 'node:assert/strict';
import type { BinaryStep, Codes, ConcatStep, Data, ProgramStep, UnaryKind } from '../../binding';
import {
  addon,
  codes,
  dequantizeReference,
  floats,
  forWindows,
  ISAS,
  outputReference,
  Random,
  quantizeReference,
  randomGeometry,
  randomOutput,
  runStep,
  zeroPoint,
} from './harness';

const { fround } = Math;
const isSigned = (data: Data) => data instanceof Int8Array;
const emptyCodes = (signed: boolean, length: number): Codes =>
  signed ? new Int8Array(length) : new Uint8Array(length);

/** Runs the step on each ISA (1 and 2 threads) and compares bit for bit. */
function expectExact(step: ProgramStep, inputs: Data[], expected: Data, label = ''): void {
  for (const isa of ISAS) {
    for (const threads of [1, 2]) {
      const output = new (expected.constructor as typeof Float32Array)(expected.length);
      runStep(step, inputs, output, isa, threads);
      // Strict equality of typed arrays compares bytes, and a NaN has many.
      const canonical = (data: Data) =>
        data instanceof Float32Array ? data.map((v) => (Number.isNaN(v) ? NaN : v)) : data;
      assert.deepEqual(canonical(output), canonical(expected), `${step.op} ${label} on ${isa}, ${threads} threads`);
    }
  }
}

/** The first ISA within `bound` (absolute + relative) of the expected values, all others with the same bits. */
function expectClose(step: ProgramStep, inputs: Data[], expected: Float64Array, bound: number, label = ''): void {
  let first: Float32Array | undefined;
  for (const isa of ISAS) {
    for (const threads of [1, 2]) {
      const output = runStep(step, inputs, new Float32Array(expected.length), isa, threads);
      first ??= output;
      const bits = (data: Float32Array) => new Uint32Array(data.buffer);
      assert.deepEqual(bits(output), bits(first), `${step.op} ${label}: bits on ${isa}, ${threads} threads`);
      output.forEach((value, i) => {
        const close =
          Object.is(value, expected[i]) || Math.abs(value - expected[i]) <= bound * (1 + Math.abs(expected[i]));
        assert.ok(close, `${step.op} ${label} on ${isa}: element ${i} is ${value}, expected ${expected[i]}`);
      });
    }
  }
}

describe('program: quantize and dequantize', () => {
  it('quantizes with true division, ties to even, NaN to the lower bound', () => {
    const special = [NaN, Infinity, -Infinity, 0, -0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, 127.5, 255.5, 1e-40];
    const random = new Random(1);
    const x = Float32Array.from([...special, ...floats(1000, random, 300)]);
    for (const signed of [false, true]) {
      for (const scale of [1, 0.37, 1e-3]) {
        const zp = zeroPoint(signed, random);
        const expected = emptyCodes(signed, x.length);
        x.forEach((v, i) => {
          expected[i] = quantizeReference(v, scale, zp, signed);
        });
        const shape = { outer: 1, axisSize: 1, inner: x.length };
        const params = { scale: Float32Array.of(scale), zeroPoint: Int32Array.of(zp) };
        expectExact({ op: 'quantize', x: 0, y: 1, ...params, ...shape }, [x], expected);
      }
    }
  });

  it('takes scales along an axis', () => {
    const random = new Random(2);
    for (const [outer, axisSize, inner] of [
      [2, 5, 7],
      [3, 37, 1],
      [1, 1, 50],
      [40, 1, 1],
      [0, 3, 2],
      [100, 33, 70],
    ]) {
      for (const signed of [false, true]) {
        const n = outer * axisSize * inner;
        const scale = Float32Array.from({ length: axisSize }, () => 0.01 + random.below(100) / 300);
        const zp = Int32Array.from({ length: axisSize }, () => zeroPoint(signed, random));
        const axis = (i: number) => Math.floor(i / inner) % axisSize;
        const shape = { outer, axisSize, inner };
        const x = floats(n, random, 20);
        const q = emptyCodes(signed, n);
        x.forEach((v, i) => {
          q[i] = quantizeReference(v, scale[axis(i)], zp[axis(i)], signed);
        });
        expectExact({ op: 'quantize', x: 0, y: 1, scale, zeroPoint: zp, ...shape }, [x], q);
        const y = Float32Array.from(q, (v, i) => dequantizeReference(v, scale[axis(i)], zp[axis(i)]));
        expectExact({ op: 'dequantize', x: 0, y: 1, scale, zeroPoint: zp, ...shape }, [q], y);
        const ints = Int32Array.from({ length: n }, () => random.below(2 ** 32) | 0);
        const z = Float32Array.from(ints, (v, i) => fround(fround((v - zp[axis(i)]) | 0) * scale[axis(i)]));
        expectExact({ op: 'dequantize', x: 0, y: 1, scale, zeroPoint: zp, ...shape }, [ints], z);
      }
    }
  });

  it('quantizes NCHW to NHWC', () => {
    const random = new Random(3);
    for (const [batch, channels, spatial] of [
      [1, 1, 1],
      [2, 3, 777],
      [1, 70, 300],
      [2, 33, 17],
    ]) {
      const x = floats(batch * channels * spatial, random, 3);
      const expected = emptyCodes(true, x.length);
      for (let n = 0; n < batch; n++) {
        for (let c = 0; c < channels; c++) {
          for (let s = 0; s < spatial; s++) {
            const value = x[(n * channels + c) * spatial + s];
            expected[(n * spatial + s) * channels + c] = quantizeReference(value, 0.02, -7, true);
          }
        }
      }
      const step = { op: 'quantize_nhwc', x: 0, y: 1, scale: 0.02, zeroPoint: -7, batch, channels, spatial } as const;
      expectExact(step, [x], expected);
    }
  });

  it('quantizes what lies next to the middle between two codes as a division does', () => {
    const bits = new Int32Array(1);
    const float = new Float32Array(bits.buffer);
    for (const scale of [1, 0.37, 1 / 3, 0.02, 1e-3, 7.3e-5, 123.4, 2 ** -140, 1e-32, 1e32]) {
      // All middles and up to 3 floats on either side of them.
      const x = Float32Array.from({ length: 7 * 600 }, (_, i) => {
        float[0] = (Math.floor(i / 7) - 300.5) * Math.fround(scale);
        bits[0] += (i % 7) - 3;
        return float[0];
      });
      for (const signed of [false, true]) {
        const zp = signed ? -3 : 131;
        const expected = emptyCodes(signed, x.length);
        x.forEach((v, i) => {
          expected[i] = quantizeReference(v, scale, zp, signed);
        });
        const shape = { outer: 1, axisSize: 1, inner: x.length };
        const params = { scale: Float32Array.of(scale), zeroPoint: Int32Array.of(zp) };
        expectExact({ op: 'quantize', x: 0, y: 1, ...params, ...shape }, [x], expected, `scale ${scale}`);
      }
    }
  });

  it('looks codes up by their byte', () => {
    const random = new Random(4);
    const table = Uint8Array.from({ length: 256 }, () => random.below(256));
    for (const length of [0, 1, 63, 255, 100_001]) {
      for (const signed of [false, true]) {
        // Every code, in an order that no vector width repeats.
        const x = codes(signed, length, random).map((v, i) => (i % 3 ? v : i * 7));
        expectExact(
          { op: 'lut', x: 0, y: 1, table },
          [x],
          Uint8Array.from(x, (v) => table[v & 255]),
        );
      }
    }
  });
});

describe('program: products', () => {
  it('qgemm equals the definition', () => {
    const random = new Random(10);
    for (let i = 0; i < 30; i++) {
      const [m, n, k] = [random.below(40), 1 + random.below(70), random.below(70)];
      const a = codes(random.below(2) === 0, m * k, random);
      const b = codes(random.below(2) === 0, k * n, random);
      const bZeroPoint = random.below(2) ? codes(isSigned(b), n, random) : null;
      const xZeroPoint = zeroPoint(isSigned(a), random);
      const [output, y] = randomOutput(n, m * n, random);
      y.forEach((_, at) => {
        const [row, column] = [Math.floor(at / n), at % n];
        let acc = 0;
        for (let j = 0; j < k; j++)
          acc += (a[row * k + j] - xZeroPoint) * (b[j * n + column] - (bZeroPoint?.[column] ?? 0));
        y[at] = outputReference(acc, column, output);
      });
      for (const isa of ISAS) {
        const weights = addon.packGemm(b, k, n, n, false, bZeroPoint, isa);
        const actual = new (y.constructor as typeof Float32Array)(y.length);
        runStep({ op: 'qgemm', x: 0, y: 1, m, weights, xZeroPoint, output }, [a], actual, isa, 2);
        assert.deepEqual(actual, y, `case ${i} ${isa}`);
      }
    }
  });

  it('qmatmul and matmul multiply each batch item at its offsets', () => {
    const random = new Random(11);
    for (let i = 0; i < 20; i++) {
      const [m, n, k, count] = [1 + random.below(20), 1 + random.below(40), random.below(40), random.below(6)];
      const batchOffsets = Int32Array.from(
        Array.from({ length: count }, (_, item) => [item * m * k, random.below(2) * k * n, item * m * n]).flat(),
      );
      const a = codes(random.below(2) === 0, count * m * k, random);
      const b = codes(random.below(2) === 0, 2 * k * n, random);
      const [aZeroPoint, bZeroPoint] = [zeroPoint(isSigned(a), random), zeroPoint(isSigned(b), random)];
      const fa = floats(a.length, random);
      const fb = floats(b.length, random);
      const [output, y] = randomOutput(n, count * m * n, random);
      const product = new Float64Array(y.length);
      y.forEach((_, at) => {
        const item = Math.floor(at / (m * n));
        const [row, column] = [Math.floor(at / n) % m, at % n];
        let acc = 0;
        for (let j = 0; j < k; j++) {
          const [ia, ib] = [batchOffsets[item * 3] + row * k + j, batchOffsets[item * 3 + 1] + j * n + column];
          acc += (a[ia] - aZeroPoint) * (b[ib] - bZeroPoint);
          product[at] += fa[ia] * fb[ib];
        }
        y[at] = outputReference(acc, column, output);
      });
      const dims = { a: 0, b: 1, y: 2, m, n, k, batchOffsets };
      expectExact({ op: 'qmatmul', ...dims, aZeroPoint, bZeroPoint, output }, [a, b], y, `case ${i}`);
      // k fused multiply-adds of values below 16, each rounded once.
      expectClose({ op: 'matmul', ...dims }, [fa, fb], product, 40 * 16 * 2 ** -23, `case ${i}`);
    }
  });

  it('gemm adds its bias and clamps', () => {
    const random = new Random(12);
    for (const [m, n, k, transpose] of [
      [1, 1, 1, 0],
      [7, 33, 19, 1],
      [150, 40, 64, 0],
      [3, 200, 300, 1],
      [5, 16, 0, 0],
    ]) {
      const a = floats(m * k, random, 1);
      const b = floats(k * n, random, 1);
      const bias = floats(n, random);
      const expected = new Float64Array(m * n);
      expected.forEach((_, at) => {
        const [row, column] = [Math.floor(at / n), at % n];
        let acc = 0;
        for (let j = 0; j < k; j++) acc += a[row * k + j] * (transpose ? b[column * k + j] : b[j * n + column]);
        expected[at] = Math.min(Math.max(acc + bias[column], -3), 4);
      });
      const weights = addon.packGemmF32(b, k, n, transpose === 1);
      assert.deepEqual([weights.k, weights.n], [k, n]);
      const step = { op: 'gemm', x: 0, y: 1, m, weights, bias, min: -3, max: 4 } as const;
      expectClose(step, [a], expected, (k + 2) * 2 ** -22);
    }
  });

  it('conv equals the definition within rounding', () => {
    const random = new Random(13);
    for (let i = 0; i < 60; i++) {
      const depthwise = i % 3 === 0;
      const channels = random.pick([1, 3, 4, 16, 17, 66]);
      const group = depthwise ? channels : channels % 2 === 0 ? random.pick([1, 2]) : 1;
      const outChannels = depthwise ? channels : group * random.pick([1, 5, 17]);
      const g =
        i % 5 === 1
          ? { ...randomGeometry(random, channels, 1), padTop: 0, padLeft: 0 }
          : randomGeometry(random, channels, 4);
      const depth = channels / group;
      const taps = g.kernelHeight * g.kernelWidth;
      const x = floats(g.batch * g.height * g.width * channels, random, 1);
      const w = floats(outChannels * depth * taps, random, 1);
      const bias = random.below(2) ? floats(outChannels, random) : null;
      const expected = new Float64Array(g.batch * g.outHeight * g.outWidth * outChannels);
      forWindows(g, (pixel, inside) => {
        for (let m = 0; m < outChannels; m++) {
          const first = Math.floor(m / (outChannels / group)) * depth;
          let acc = bias?.[m] ?? 0;
          for (const [tap, at] of inside) {
            for (let c = 0; c < depth; c++) acc += x[at + first + c] * w[(m * depth + c) * taps + tap];
          }
          expected[pixel * outChannels + m] = Math.max(acc, -1);
        }
      });
      const weights = addon.packConvF32(w, [outChannels, depth, g.kernelHeight, g.kernelWidth], group);
      const step = { op: 'conv', x: 0, y: 1, weights, outChannels, group, bias, min: -1, max: Infinity, ...g } as const;
      expectClose(step, [x], expected, (taps * depth + 2) * 2 ** -22, `case ${i}`);
    }
  });
});

describe('program: elementwise', () => {
  const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
  const clamp = (v: number, low: number, high: number) => Math.min(Math.max(v, low), high);
  /** Abramowitz-free: the Maclaurin series in double precision, the complement's continued fraction beyond 3. */
  const erf = (v: number): number => {
    const x = Math.abs(v);
    if (x < 3) {
      let term = x;
      let sum = x;
      for (let n = 1; n < 100; n++) {
        term *= -(x * x) / n;
        sum += term / (2 * n + 1);
      }
      return (Math.sign(v) * 2 * sum) / Math.sqrt(Math.PI);
    }
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (x + fraction);
    return Math.sign(v) * (1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + fraction)));
  };
  const ALPHA = 0.3;
  const BETA = 0.7;
  const UNARY: Record<UnaryKind, (v: number) => number> = {
    abs: Math.abs,
    neg: (v) => -v,
    relu: (v) => Math.max(v, 0),
    leaky_relu: (v) => (v < 0 ? fround(ALPHA) * v : v),
    clip: (v) => clamp(v, fround(ALPHA), fround(BETA)),
    sigmoid,
    hard_sigmoid: (v) => clamp(ALPHA * v + BETA, 0, 1),
    hard_swish: (v) => v * clamp(v / 6 + 0.5, 0, 1),
    tanh: Math.tanh,
    exp: Math.exp,
    log: Math.log,
    sqrt: Math.sqrt,
    reciprocal: (v) => 1 / v,
    erf,
    gelu: (v) => 0.5 * v * (1 + erf(v / Math.SQRT2)),
    gelu_tanh: (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
    elu: (v) => (v < 0 ? ALPHA * (Math.exp(v) - 1) : v),
    softplus: (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))),
    floor: Math.floor,
    ceil: Math.ceil,
    round: (v) => {
      const nearest = Math.round(v);
      return Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : nearest;
    },
    silu: (v) => v * sigmoid(v),
  };

  it('unary functions stay within a few ulp, with the same bits everywhere', () => {
    const random = new Random(20);
    const x = Float32Array.from([0, 0.5, 1.5, 2.5, -0.5, -2.5, 1e-3, -1e-3, ...floats(3000, random, 12)]);
    const positive = x.map(Math.abs);
    for (const [kind, reference] of Object.entries(UNARY) as [UnaryKind, (v: number) => number][]) {
      const input =
        kind === 'log' || kind === 'sqrt'
          ? positive.map((v) => v + 1e-6)
          : kind === 'reciprocal'
            ? positive.map((v) => v + 0.1)
            : x;
      const step = { op: 'unary', kind, x: 0, y: 1, alpha: ALPHA, beta: BETA } as const;
      const expected = Float64Array.from(input, (v) => reference(v) + 0);
      for (const isa of ISAS) {
        const output = runStep(step, [input], new Float32Array(input.length), isa);
        output.forEach((value, i) => {
          const want = expected[i];
          // 4 ulp, and for sums that cancel an absolute part of the size of their terms.
          const bound = 4 * 2 ** -23 * Math.abs(want) + (/gelu|elu|hard|silu|softplus/.test(kind) ? 2 ** -22 : 1e-38);
          assert.ok(Math.abs(value - want) <= bound, `${kind}(${input[i]}) = ${value}, expected ${want} (${isa})`);
        });
      }
      const bits = ISAS.map(
        (isa) => new Uint32Array(runStep(step, [input], new Float32Array(input.length), isa).buffer),
      );
      for (const other of bits) assert.deepEqual(other, bits[0], kind);
    }
  });

  it('exp and log cover the whole range and the special values', () => {
    const random = new Random(21);
    const wide = floats(5000, random, 86);
    const of = (kind: UnaryKind, values: ArrayLike<number>, isa: string) =>
      runStep(
        { op: 'unary', kind, x: 0, y: 1, alpha: 0, beta: 0 },
        [Float32Array.from(values)],
        new Float32Array(values.length),
        isa,
      );
    for (const isa of ISAS) {
      of('exp', wide, isa).forEach((v, i) => {
        assert.ok(Math.abs(v / Math.exp(wide[i]) - 1) < 2 * 2 ** -23, `exp(${wide[i]}) = ${v}`);
      });
      const positive = wide.map((v) => Math.exp(v));
      of('log', positive, isa).forEach((v, i) => {
        const want = Math.log(positive[i]);
        assert.ok(Math.abs(v - want) <= 3 * 2 ** -23 * Math.abs(want), `log(${positive[i]}) = ${v}`);
      });
      assert.deepEqual(
        [...of('exp', [Infinity, -Infinity, NaN, 89, -120, 0], isa)],
        [Infinity, 0, NaN, Infinity, 0, 1],
      );
      assert.deepEqual([...of('log', [0, -1, Infinity, NaN, 1], isa)], [-Infinity, NaN, Infinity, NaN, 0]);
      assert.ok(Math.abs(of('log', [1e-42], isa)[0] - Math.log(fround(1e-42))) < 1e-4);
      for (const kind of ['tanh', 'sigmoid', 'erf', 'relu', 'gelu', 'clip'] as const) {
        assert.ok(Number.isNaN(of(kind, [NaN], isa)[0]), kind);
      }
      assert.deepEqual([...of('tanh', [Infinity, -Infinity], isa)], [1, -1]);
      assert.deepEqual([...of('sigmoid', [Infinity, -Infinity], isa)], [1, 0]);
      assert.deepEqual([...of('round', [2 ** 30, -0.2, 8388609], isa)], [2 ** 30, -0, 8388609]);
    }
  });

  it('chains have the bits of their operators one after the other', () => {
    const random = new Random(23);
    for (const [rows, columns] of [
      [1, 5000],
      [1, 1],
      [3, 1024],
      [7, 1500],
      [40, 33],
    ]) {
      const size = rows * columns;
      const [x, dense, row, scalar] = [size, size, columns, 1].map((length) => floats(length, random, 3));
      const step = {
        op: 'chain',
        x: 0,
        y: 4,
        columns,
        parts: [
          { kind: 'add', operand: 2, operandFirst: false, form: 'row' },
          { kind: 'sigmoid', alpha: 0, beta: 0 },
          { kind: 'sub', operand: 3, operandFirst: true, form: 'scalar' },
          { kind: 'mul', operand: 1, operandFirst: false, form: 'dense' },
          { kind: 'div', operand: 0, operandFirst: true, form: 'dense' },
        ],
      } as const;
      const y = () => new Float32Array(size);
      const unary = runStep(
        { op: 'unary', kind: 'sigmoid', x: 0, y: 1, alpha: 0, beta: 0 },
        [x.map((v, i) => v + row[i % columns])],
        y(),
        'scalar',
      );
      const expected = unary.map((v, i) => fround(x[i] / fround(fround(scalar[0] - v) * dense[i])));
      expectExact(step as unknown as ProgramStep, [x, dense, row, scalar], expected, `${rows} x ${columns}`);
    }
  });

  const BINARY = {
    add: (u: number, v: number) => u + v,
    sub: (u: number, v: number) => u - v,
    mul: (u: number, v: number) => u * v,
    div: (u: number, v: number) => u / v,
    min: Math.min,
    max: Math.max,
    prelu: (u: number, v: number) => (u < 0 ? u * v : u),
  };
  /** Shape, a's strides and b's strides; numbers of elements follow. */
  const BROADCASTS: [number[], number[], number[]][] = [
    [[], [], []],
    [[50_000], [1], [1]],
    [[33], [1], [0]],
    [[33], [0], [1]],
    [
      [2, 3, 37],
      [111, 37, 1],
      [0, 0, 1],
    ],
    [
      [2, 5, 37],
      [185, 37, 1],
      [5, 1, 0],
    ],
    [
      [4, 1, 6],
      [6, 6, 1],
      [0, 0, 1],
    ],
    [
      [3, 4],
      [1, 3],
      [4, 1],
    ],
    [
      [2, 0, 3],
      [0, 3, 1],
      [0, 3, 1],
    ],
    [
      [3, 100, 200],
      [20000, 200, 1],
      [200, 0, 1],
    ],
  ];
  const extent = (shape: number[], strides: number[]) =>
    shape.includes(0) ? 0 : shape.reduce((sum, size, i) => sum + (size - 1) * strides[i], 1);
  const offsets = (shape: number[], strides: number[]) => {
    let list = [0];
    shape.forEach((size, axis) => {
      list = list.flatMap((base) => Array.from({ length: size }, (_, i) => base + i * strides[axis]));
    });
    return list;
  };

  it('binary operators broadcast', () => {
    const random = new Random(22);
    for (const [shape, aStrides, bStrides] of BROADCASTS) {
      const a = floats(extent(shape, aStrides), random);
      const b = floats(extent(shape, bStrides), random).map((v) => v || 1);
      const [ia, ib] = [offsets(shape, aStrides), offsets(shape, bStrides)];
      for (const [kind, op] of Object.entries(BINARY)) {
        const expected = Float32Array.from(ia, (at, i) => op(a[at], b[ib[i]]));
        const step = {
          op: 'binary',
          kind: kind as keyof typeof BINARY,
          a: 0,
          b: 1,
          y: 2,
          shape,
          aStrides,
          bStrides,
        } as const;
        expectExact(step, [a, b], expected, `${kind} [${shape}]`);
      }
    }
  });

  it('pow is within 2 ulp and has the special cases of IEEE 754', () => {
    const random = new Random(23);
    const a = floats(2000, random, 10).map(Math.abs);
    const b = floats(2000, random, 6);
    const flat = { shape: [2000], aStrides: [1], bStrides: [1] };
    const expected = Float64Array.from(a, (v, i) => v ** b[i]);
    expectClose({ op: 'binary', kind: 'pow', a: 0, b: 1, y: 2, ...flat }, [a, b], expected, 2 ** -22);
    const special = [0, -0, 1, -1, 2, -2, 0.5, Infinity, -Infinity, 3, -3, 2 ** 25];
    const pairs = special.flatMap((u) => special.map((v) => [u, v]));
    const u = Float32Array.from(pairs, ([v]) => v);
    const v = Float32Array.from(pairs, ([, w]) => w);
    const table = Float32Array.from(pairs, ([x, y]) => (Math.abs(x) === 1 && !Number.isFinite(y) ? 1 : x ** y));
    const all = { shape: [pairs.length], aStrides: [1], bStrides: [1] };
    expectExact({ op: 'binary', kind: 'pow', a: 0, b: 1, y: 2, ...all }, [u, v], table);
    for (const exponent of [2, 0.5]) {
      const scalar = { shape: [2000], aStrides: [1], bStrides: [0] };
      const step: BinaryStep = { op: 'binary', kind: 'pow', a: 0, b: 1, y: 2, ...scalar };
      expectExact(
        step,
        [a, Float32Array.of(exponent)],
        a.map((w) => (exponent === 2 ? w * w : Math.sqrt(w))),
      );
    }
  });

  it('qbinary dequantizes, computes in float32 and quantizes', () => {
    const random = new Random(24);
    for (const [shape, aStrides, bStrides] of BROADCASTS) {
      for (const kind of ['add', 'sub', 'mul', 'div'] as const) {
        const signs = [random.below(2) === 0, random.below(2) === 0, random.below(2) === 0];
        const a = codes(signs[0], extent(shape, aStrides), random);
        const b = codes(signs[1], extent(shape, bStrides), random);
        const [aZeroPoint, bZeroPoint, yZeroPoint] = signs.map((signed) => zeroPoint(signed, random));
        const [aScale, bScale, yScale] = [0.05, 0.031, kind === 'mul' ? 0.4 : 0.07];
        const [ia, ib] = [offsets(shape, aStrides), offsets(shape, bStrides)];
        const expected = emptyCodes(signs[2], ia.length);
        ia.forEach((at, i) => {
          const va = dequantizeReference(a[at], aScale, aZeroPoint);
          const vb = dequantizeReference(b[ib[i]], bScale, bZeroPoint);
          expected[i] = quantizeReference(BINARY[kind](va, vb), yScale, yZeroPoint, signs[2]);
        });
        const params = { aScale, aZeroPoint, bScale, bZeroPoint, yScale, yZeroPoint };
        expectExact(
          { op: 'qbinary', kind, a: 0, b: 1, y: 2, shape, aStrides, bStrides, ...params },
          [a, b],
          expected,
          `${kind} [${shape}]`,
        );
      }
    }
  });

  it('runs in place', () => {
    const random = new Random(25);
    const x = floats(20_000, random);
    const n = x.length;
    for (const isa of ISAS) {
      const y = new Float32Array(n);
      const q = { scale: Float32Array.of(0.1), zeroPoint: Int32Array.of(3), outer: 1, axisSize: 1, inner: n };
      const flat = { shape: [n], aStrides: [1], bStrides: [1] };
      const arena = { kind: 'arena', offset: 0, elements: n } as const;
      const program = addon.createProgram(
        {
          buffers: [
            { kind: 'input', index: 0, dtype: 'float32', elements: n },
            { ...arena, dtype: 'float32' },
            { kind: 'arena', offset: 131_072, elements: n, dtype: 'uint8' },
            { kind: 'output', index: 0, dtype: 'float32', elements: n },
          ],
          steps: [
            { op: 'unary', kind: 'neg', x: 0, y: 1, alpha: 0, beta: 0 },
            { op: 'unary', kind: 'abs', x: 1, y: 1, alpha: 0, beta: 0 },
            { op: 'binary', kind: 'add', a: 1, b: 1, y: 1, ...flat },
            { op: 'quantize', x: 1, y: 2, ...q },
            { op: 'lut', x: 2, y: 2, table: Uint8Array.from({ length: 256 }, (_, i) => 255 - i) },
            {
              ...{ op: 'qbinary', kind: 'add', a: 2, b: 2, y: 2, ...flat },
              ...{ aScale: 1, aZeroPoint: 0, bScale: 1, bZeroPoint: 0, yScale: 2, yZeroPoint: 0 },
            },
            { op: 'dequantize', x: 2, y: 3, ...q },
          ],
          arenaBytes: 131_072 + 20_032,
        },
        isa,
      );
      program.runSync([x], [y], 2);
      const expected = x.map((v) => {
        const code = 255 - quantizeReference(fround(Math.abs(v) * 2), 0.1, 3, false);
        return dequantizeReference(code, 0.1, 3);
      });
      assert.deepEqual(y, expected, isa);
    }
  });
});

describe('program: pooling', () => {
  it('max and average pooling skip the padding', () => {
    const random = new Random(30);
    for (let i = 0; i < 60; i++) {
      const channels = random.pick([1, 3, 16, 33, 70, 128]);
      const g = randomGeometry(random, channels, 4);
      const elements = g.batch * g.height * g.width * channels;
      const outputs = g.batch * g.outHeight * g.outWidth * channels;
      for (const x of [codes(false, elements, random), codes(true, elements, random), floats(elements, random)]) {
        const lowest = x instanceof Float32Array ? -Infinity : isSigned(x) ? -128 : 0;
        const expected = new (x.constructor as typeof Float32Array)(outputs);
        forWindows(g, (pixel, taps) => {
          for (let c = 0; c < channels; c++)
            expected[pixel * channels + c] = Math.max(lowest, ...taps.map(([, at]) => x[at + c]));
        });
        expectExact({ op: 'max_pool', x: 0, y: 1, ...g }, [x], expected, `case ${i}`);
      }
      const [padBottom, padRight] = [random.below(3), random.below(3)];
      const countIncludePad = random.below(2) === 0;
      const counted = (
        size: number,
        pad: number,
        end: number,
        stride: number,
        dilation: number,
        kernel: number,
        o: number,
      ) =>
        Array.from({ length: kernel }, (_, k) => o * stride + k * dilation).filter((p) => p < pad + size + end).length;
      const divisor = (pixel: number, inside: number) => {
        if (!countIncludePad) return Math.max(inside, 1);
        const [oy, ox] = [Math.floor(pixel / g.outWidth) % g.outHeight, pixel % g.outWidth];
        const rows = counted(g.height, g.padTop, padBottom, g.strideHeight, g.dilationHeight, g.kernelHeight, oy);
        const columns = counted(g.width, g.padLeft, padRight, g.strideWidth, g.dilationWidth, g.kernelWidth, ox);
        return Math.max(rows * columns, 1);
      };
      const pads = { countIncludePad, padBottom, padRight };
      const f = floats(elements, random);
      const average = new Float32Array(outputs);
      forWindows(g, (pixel, taps) => {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (const [, at] of taps) sum = fround(sum + f[at + c]);
          average[pixel * channels + c] = sum / divisor(pixel, taps.length);
        }
      });
      expectExact({ op: 'average_pool', x: 0, y: 1, ...g, ...pads }, [f], average, `case ${i}`);
      const q = codes(random.below(2) === 0, elements, random);
      const signed = random.below(2) === 0;
      const [xZeroPoint, yZeroPoint] = [zeroPoint(isSigned(q), random), zeroPoint(signed, random)];
      const expected = emptyCodes(signed, outputs);
      forWindows(g, (pixel, taps) => {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (const [, at] of taps) sum = fround(sum + dequantizeReference(q[at + c], 0.03, xZeroPoint));
          expected[pixel * channels + c] = quantizeReference(
            fround(sum / divisor(pixel, taps.length)),
            0.05,
            yZeroPoint,
            signed,
          );
        }
      });
      const scales = { xScale: 0.03, xZeroPoint, yScale: 0.05, yZeroPoint };
      expectExact({ op: 'qaverage_pool', x: 0, y: 1, ...g, ...pads, ...scales }, [q], expected, `case ${i}`);
    }
  }).timeout(60_000);

  it('global average pooling sums integers', () => {
    const random = new Random(31);
    for (const [batch, spatial, channels] of [
      [1, 1, 1],
      [2, 49, 100],
      [3, 196, 300],
    ]) {
      for (const signed of [false, true]) {
        const x = codes(signed, batch * spatial * channels, random);
        const [xZeroPoint, yZeroPoint] = [zeroPoint(signed, random), zeroPoint(!signed, random)];
        const multiplier = fround(0.7 / spatial);
        const expected = emptyCodes(!signed, batch * channels);
        const [min, max] = signed ? [0, 255] : [-128, 127];
        expected.forEach((_, at) => {
          let acc = 0;
          for (let s = 0; s < spatial; s++)
            acc += x[(Math.floor(at / channels) * spatial + s) * channels + (at % channels)] - xZeroPoint;
          const spec = {
            kind: 'requantize',
            multiplier: Float32Array.of(multiplier),
            bias: null,
            zeroPoint: yZeroPoint,
            min,
            max,
          } as const;
          expected[at] = outputReference(acc, 0, spec);
        });
        const step = {
          op: 'qglobal_average_pool',
          x: 0,
          y: 1,
          batch,
          spatial,
          channels,
          xZeroPoint,
          multiplier,
          yZeroPoint,
        } as const;
        expectExact(step, [x], expected);
      }
    }
  });
});

describe('program: rows', () => {
  const SHAPES = [
    [1, 1, 1],
    [3, 10, 1],
    [5, 33, 1],
    [2, 1000, 1],
    [2, 7, 5],
    [1, 20, 130],
    [300, 64, 3],
  ];

  it('softmax sums to one along the axis', () => {
    const random = new Random(40);
    for (const [outer, axisSize, inner] of SHAPES) {
      const x = floats(outer * axisSize * inner, random, 8);
      const expected = new Float64Array(x.length);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          const at = Array.from({ length: axisSize }, (_, a) => (o * axisSize + a) * inner + i);
          const top = Math.max(...at.map((j) => x[j]));
          const sum = at.reduce((s, j) => s + Math.exp(x[j] - top), 0);
          for (const j of at) expected[j] = Math.exp(x[j] - top) / sum;
        }
      }
      expectClose(
        { op: 'softmax', x: 0, y: 1, outer, axisSize, inner, guarded: false },
        [x],
        expected,
        1e-6,
        `${outer}x${axisSize}x${inner}`,
      );
    }
  });

  it('guarded softmax gives 0 where there is no result', () => {
    for (const [outer, axisSize, inner] of SHAPES) {
      const x = floats(outer * axisSize * inner, new Random(42), 8);
      // The first of the inner columns of the last row hides everything; another meets a NaN.
      const last = (outer - 1) * axisSize * inner;
      for (let a = 0; a < axisSize; a++) x[last + a * inner] = Number.NEGATIVE_INFINITY;
      if (inner > 1) x[last + 1] = Number.NaN;
      const step = { op: 'softmax', x: 0, y: 1, outer, axisSize, inner } as const;
      for (const isa of ISAS) {
        const plain = runStep({ ...step, guarded: false }, [x], new Float32Array(x.length), isa, 1);
        const guarded = runStep({ ...step, guarded: true }, [x], new Float32Array(x.length), isa, 1);
        assert.ok(plain.some(Number.isNaN), 'there is something to guard');
        assert.deepEqual(
          guarded,
          plain.map((value) => (Number.isNaN(value) ? 0 : value)),
        );
      }
    }
  });

  it('reduce folds the axis', () => {
    const random = new Random(41);
    const folds = {
      sum: (v: number[]) => v.reduce((s, w) => s + w, 0),
      mean: (v: number[]) => v.reduce((s, w) => s + w, 0) / v.length,
      max: (v: number[]) => Math.max(...v),
      min: (v: number[]) => Math.min(...v),
    };
    for (const [outer, axisSize, inner] of SHAPES) {
      const x = floats(outer * axisSize * inner, random, 1);
      for (const [kind, fold] of Object.entries(folds)) {
        const expected = Float64Array.from({ length: outer * inner }, (_, at) =>
          fold(
            Array.from(
              { length: axisSize },
              (_, a) => x[(Math.floor(at / inner) * axisSize + a) * inner + (at % inner)],
            ),
          ),
        );
        const step = { op: 'reduce', kind: kind as keyof typeof folds, x: 0, y: 1, outer, axisSize, inner } as const;
        // Partial sums stay below the axis' length.
        expectClose(
          step,
          [x],
          expected,
          kind === 'sum' ? axisSize * 2 ** -22 : 2 ** -20,
          `${kind} ${outer}x${axisSize}x${inner}`,
        );
      }
    }
  });

  it('layer_norm normalizes each row', () => {
    const random = new Random(42);
    for (const [outer, size] of [
      [1, 1],
      [3, 17],
      [50, 384],
    ]) {
      const x = floats(outer * size, random);
      const scale = floats(size, random);
      const bias = floats(size, random);
      const reference = (withBias: boolean) =>
        Float64Array.from(x, (v, i) => {
          const row = x.subarray(i - (i % size), i - (i % size) + size);
          const mean = row.reduce((s, w) => s + w, 0) / size;
          const variance = row.reduce((s, w) => s + (w - mean) ** 2, 0) / size;
          return ((v - mean) / Math.sqrt(variance + 1e-5)) * scale[i % size] + (withBias ? bias[i % size] : 0);
        });
      const step = { op: 'layer_norm', x: 0, scale: 1, outer, size, epsilon: 1e-5 } as const;
      expectClose({ ...step, bias: 2, y: 3 }, [x, scale, bias], reference(true), 1e-5);
      expectClose({ ...step, bias: null, y: 2 }, [x, scale], reference(false), 1e-5);
    }
  });
});

describe('program: copies', () => {
  const make = (kind: string, length: number, random: Random): Data =>
    kind === 'u8'
      ? codes(false, length, random)
      : kind === 'u16'
        ? Uint16Array.from({ length }, () => random.below(65536))
        : kind === 'f32'
          ? floats(length, random)
          : BigInt64Array.from({ length }, () => BigInt(random.below(2 ** 31)));
  const pick = (x: Data, indices: number[]): Data => {
    const y = new (x.constructor as typeof Float32Array)(indices.length);
    indices.forEach((from, to) => {
      y[to] = (x as Float32Array)[from];
    });
    return y;
  };

  it('strided_copy transposes, slices, reverses and expands', () => {
    const random = new Random(50);
    const cases: [number[], number[], number, number][] = [
      [[], [], 0, 1],
      [[7], [-1], 6, 7],
      [[2, 50, 70], [3500, 1, 50], 0, 7000],
      [[2, 3, 130], [390, 1, 3], 0, 780],
      [[2, 130, 3], [390, 1, 130], 0, 780],
      [[2, 3, 4, 5], [60, 5, 15, 1], 0, 120],
      [[4, 3], [0, 1], 2, 5],
      [[3, 4], [20, -2], 17, 60],
      [[5, 0, 2], [1, 1, 1], 0, 0],
      [[300, 200], [1, 300], 0, 60_000],
    ];
    for (const [shape, strides, offset, elements] of cases) {
      for (const kind of ['u8', 'u16', 'f32', 'i64']) {
        const x = make(kind, elements, random);
        let at = [offset];
        shape.forEach((size, axis) => {
          at = at.flatMap((base) => Array.from({ length: size }, (_, i) => base + i * strides[axis]));
        });
        const step = { op: 'strided_copy', x: 0, y: 1, shape, strides, offset } as const;
        expectExact(step, [x], pick(x, at), `${kind} [${shape}] by [${strides}]`);
      }
    }
  });

  it('concat joins blocks, through tables where there are some', () => {
    const random = new Random(51);
    const table = Uint8Array.from({ length: 256 }, (_, i) => (i * 7) & 255);
    for (const outer of [0, 1, 5, 3000]) {
      const inners = [3, 0, 17];
      const inputs = inners.map((n) => codes(false, outer * n, random));
      const rows = Array.from({ length: outer }, (_, o) =>
        inputs.flatMap((x, i) => {
          const row = [...x.subarray(o * inners[i], (o + 1) * inners[i])];
          return i === 2 ? row.map((v) => table[v & 255]) : row;
        }),
      );
      const step: ConcatStep = {
        op: 'concat',
        inputs: [0, 1, 2],
        y: 3,
        outer,
        inners,
        offsets: [0, 3, 3],
        row: 20,
        tables: [null, null, table],
      };
      expectExact(step, inputs, Uint8Array.from(rows.flat()), `outer ${outer}`);
      const f = inners.map((n) => floats(outer * n, random));
      const joined = Array.from({ length: outer }, (_, o) =>
        f.flatMap((x, i) => [...x.subarray(o * inners[i], (o + 1) * inners[i])]),
      );
      expectExact({ ...step, tables: [null, null, null] }, f, Float32Array.from(joined.flat()));
      const swapped = Array.from({ length: outer }, (_, o) =>
        [f[2], f[0]].flatMap((x, i) => [...x.subarray(o * [17, 3][i], (o + 1) * [17, 3][i])]),
      );
      const tables = [null, null, null];
      expectExact({ ...step, offsets: [17, 17, 0], tables }, f, Float32Array.from(swapped.flat()));
    }
  });

  it('pad fills and crops', () => {
    const random = new Random(52);
    const cases: [number[], number[], number[]][] = [
      [[], [], []],
      [[5], [2], [9]],
      [[5], [-2], [2]],
      [
        [2, 3, 4],
        [1, 0, 2],
        [4, 3, 9],
      ],
      [
        [2, 3, 4],
        [-1, 1, -1],
        [2, 2, 2],
      ],
      [
        [2, 2],
        [5, 0],
        [4, 2],
      ],
      [
        [0, 3],
        [1, 0],
        [2, 3],
      ],
      [[3], [-9], [2]],
    ];
    for (const [shape, begins, outShape] of cases) {
      for (const kind of ['u8', 'f32']) {
        const x = make(
          kind,
          shape.reduce((n, s) => n * s, 1),
          random,
        );
        const fill = kind === 'u8' ? Uint8Array.of(9) : new Uint8Array(Float32Array.of(1.5).buffer);
        const size = outShape.reduce((n, s) => n * s, 1);
        const expected = (x.constructor as typeof Float32Array).from({ length: size }, (_, at) => {
          let rest = at;
          let index = 0;
          let stride = 1;
          for (let axis = shape.length - 1; axis >= 0; axis--) {
            const i = (rest % outShape[axis]) - begins[axis];
            rest = Math.floor(rest / outShape[axis]);
            if (i < 0 || i >= shape[axis]) return kind === 'u8' ? 9 : 1.5;
            index += i * stride;
            stride *= shape[axis];
          }
          return (x as Float32Array)[index];
        });
        expectExact(
          { op: 'pad', x: 0, y: 1, shape, begins, outShape, value: fill },
          [x],
          expected,
          `${kind} [${shape}] at [${begins}]`,
        );
      }
    }
  });

  it('interpolates along an axis, in the order of taps and without those that weigh nothing', () => {
    const random = new Random(31);
    for (const [outer, axisSize, inner] of [
      [1, 7, 1],
      [3, 5, 9],
      [2, 4, 67],
      [1, 30, 128],
    ]) {
      for (const taps of [1, 2, 4, 64]) {
        const count = 11;
        const x = make('f32', outer * axisSize * inner, random) as Float32Array;
        const indices = Int32Array.from({ length: count * taps }, () => random.below(axisSize));
        const weights = Float32Array.from({ length: count * taps }, () => (random.below(5) - 2) / 4);
        // What has infinity as a neighbour that weighs nothing must not see it.
        weights.forEach((_, i) => {
          if (indices[i] === axisSize - 1) weights[i] = 0;
        });
        x.fill(Number.POSITIVE_INFINITY, (axisSize - 1) * inner, axisSize * inner);
        const expected = new Float64Array(outer * count * inner);
        for (let o = 0; o < outer; o++) {
          for (let i = 0; i < count; i++) {
            for (let t = 0; t < taps; t++) {
              const weight = weights[i * taps + t];
              if (weight === 0) continue;
              for (let j = 0; j < inner; j++)
                expected[(o * count + i) * inner + j] += weight * x[(o * axisSize + indices[i * taps + t]) * inner + j];
            }
          }
        }
        const step = { op: 'resample', x: 0, y: 1, outer, axisSize, inner, count, taps, indices, weights } as const;
        expectClose(step, [x], expected, 1e-5, `${taps} taps of [${outer}, ${axisSize}, ${inner}]`);
      }
    }
  });

  it('gather takes rows by constant and run-time indices', () => {
    const random = new Random(53);
    for (const [outer, axisSize, inner] of [
      [1, 5, 1],
      [3, 7, 4],
      [2, 30, 1000],
    ]) {
      for (const kind of ['u8', 'f32', 'i64']) {
        const x = make(kind, outer * axisSize * inner, random);
        const indices = Int32Array.from({ length: 11 }, () => random.below(axisSize));
        const at = Array.from({ length: outer }, (_, o) =>
          [...indices].flatMap((row) => Array.from({ length: inner }, (_, i) => (o * axisSize + row) * inner + i)),
        ).flat();
        const expected = pick(x, at);
        expectExact({ op: 'gather', x: 0, y: 1, outer, axisSize, inner, indices }, [x], expected);
        const step = { op: 'gather_dynamic', x: 0, indices: 1, y: 2, outer, axisSize, inner, count: 11 } as const;
        const negative = indices.map((v, i) => (i % 2 ? v : v - axisSize));
        expectExact(step, [x, negative], expected);
        expectExact(step, [x, BigInt64Array.from(indices, (v) => BigInt(v))], expected);
        for (const bad of [axisSize, -axisSize - 1]) {
          const out = new (expected.constructor as typeof Float32Array)(expected.length);
          assert.throws(() => runStep(step, [x, indices.map(() => bad)], out, ISAS[0]), /Expected indices from/);
        }
      }
    }
  });
});
