/** Bad arguments of qgemm, packWeights and cpuInfo: a Q8Error that names the argument; never a crash or a wrong answer. */
import assert from 'node:assert/strict';
import { Q8Error, type Q8ErrorCode } from '../../lib/errors';
import { cpuInfo, packWeights, qgemm, qgemmAsync } from '../../lib/kernels/index';

const good = () => ({ m: 2, n: 3, k: 4, a: new Uint8Array(8), b: new Int8Array(12) });

function refuses(options: object, code: Q8ErrorCode, message: RegExp): void {
  const call = { ...good(), ...options };
  assert.throws(
    () => qgemm(call),
    (error: unknown) => {
      assert.ok(error instanceof Q8Error, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    },
  );
}

const invalid = (options: object, message: RegExp) => refuses(options, 'ERR_Q8_INVALID_ARGUMENT', message);
const mismatch = (options: object, message: RegExp) => refuses(options, 'ERR_Q8_SHAPE_MISMATCH', message);

describe('qgemm refuses', () => {
  it('options that are no object, and unknown ones with the likely meaning', () => {
    assert.throws(() => qgemm(null as never), /Expected an object for the options of qgemm\(\)/);
    assert.throws(() => qgemm(new Uint8Array(4) as never), /option/);
    invalid({ transposeb: true }, /Did you mean "transposeB"/);
    invalid({ signal: undefined }, /Unknown option "signal"/);
    invalid({ requantize: { scale: 1, dtype: 'uint8', zeropoint: 1 } }, /Did you mean "zeroPoint"/);
  });

  it('sizes that are negative, fractional, huge or no numbers', () => {
    for (const m of [-1, 1.5, Number.NaN, 2 ** 53, '2', undefined]) invalid({ m }, /for m but received/);
    invalid({ n: -3 }, /for n but/);
    invalid({ k: 0.1 }, /for k but/);
    invalid({ m: 2 ** 40, n: 2 ** 40 }, /safe integer/);
    mismatch({ m: 2 ** 31 }, /a of qgemm/);
    invalid({ threads: 0 }, /for threads/);
    invalid({ lda: 3 }, />= 4 for lda/);
    invalid({ ldb: 2 }, />= 3 for ldb/);
  });

  it('operands of another class or length', () => {
    invalid({ a: [1, 2] }, /Uint8Array or Int8Array for a/);
    invalid({ a: new Uint8ClampedArray(8) }, /for a but received a Uint8ClampedArray/);
    invalid({ b: new Float32Array(12) }, /PackedWeights for b/);
    mismatch({ a: new Uint8Array(7) }, /8 elements \(2x4\)/);
    mismatch({ a: new Uint8Array(9) }, /8 elements/);
    mismatch({ b: new Int8Array(11) }, /12 elements \(4x3\)/);
    mismatch({ lda: 5 }, /9 elements/);
    mismatch({ ldb: 10 }, /33 elements/);
    invalid({ transposeB: 1 }, /boolean for transposeB/);
  });

  it('zero points outside the type', () => {
    invalid({ aZeroPoint: -1 }, /0 to 255 \(uint8\) for aZeroPoint/);
    invalid({ aZeroPoint: 1.5 }, /aZeroPoint/);
    invalid({ bZeroPoint: 128 }, /-128 to 127 \(int8\) for bZeroPoint/);
    invalid({ bZeroPoint: new Uint8Array(3) }, /Int8Array, the type of b, for bZeroPoint/);
    mismatch({ bZeroPoint: new Int8Array(2) }, /3 elements, one per column/);
  });

  it('output stages that make no sense', () => {
    const requantize = { scale: 1, dtype: 'uint8' };
    invalid({ requantize, dequantize: { scale: 1 } }, /at most one/);
    for (const scale of [0, -1, Number.NaN, Infinity, 1e-60, 1e39, '1', undefined]) {
      invalid({ requantize: { ...requantize, scale } }, /requantize\.scale/);
      invalid({ dequantize: { scale } }, /dequantize\.scale/);
    }
    invalid({ dequantize: { scale: Float32Array.of(1, 0, 1) } }, /dequantize\.scale\[1\]/);
    mismatch({ dequantize: { scale: new Float32Array(2) } }, /3 elements for dequantize\.scale/);
    invalid({ requantize: { ...requantize, dtype: 'int32' } }, /dtype/);
    invalid({ requantize: { ...requantize, zeroPoint: 256 } }, /zeroPoint/);
    invalid({ requantize: { ...requantize, min: 9, max: 8 } }, /max/);
    invalid({ requantize: { ...requantize, bias: new Float32Array(3) } }, /Int32Array for requantize\.bias/);
    mismatch({ requantize: { ...requantize, bias: new Int32Array(4) } }, /3 elements/);
    invalid({ dequantize: { scale: 1, bias: new Int32Array(3) } }, /Float32Array for dequantize\.bias/);
  });

  it('an out of the wrong class, too short, or over the operands', () => {
    invalid({ out: new Float32Array(6) }, /Int32Array for out/);
    mismatch({ out: new Int32Array(5) }, /at least 6 elements/);
    for (const Buffer of [ArrayBuffer, SharedArrayBuffer]) {
      const memory = new Buffer(64);
      const out = new Int32Array(memory, 0, 6);
      invalid({ out, a: new Uint8Array(memory, 23, 8) }, /apart from a and b/);
      invalid({ out, b: new Int8Array(memory, 4, 12) }, /apart from a and b/);
      assert.equal(qgemm({ ...good(), out, a: new Uint8Array(memory, 24, 8) }), out);
    }
  });

  it('memory that can move or has gone', () => {
    const resizable = Reflect.construct(ArrayBuffer, [16, { maxByteLength: 64 }]) as ArrayBuffer;
    invalid({ a: new Uint8Array(resizable, 0, 8) }, /fixed length for a/);
    const growable = Reflect.construct(SharedArrayBuffer, [16, { maxByteLength: 64 }]) as SharedArrayBuffer;
    invalid({ b: new Int8Array(growable, 0, 12) }, /fixed length for b/);
    for (const name of ['a', 'b', 'out'] as const) {
      const array = { a: new Uint8Array(8), b: new Int8Array(12), out: new Int32Array(6) }[name];
      structuredClone(array.buffer, { transfer: [array.buffer] });
      refuses({ [name]: array }, 'ERR_Q8_DETACHED_BUFFER', new RegExp(`for ${name} but`));
    }
  });

  it('packed weights of other sizes, options that belong to packing, and disposed ones', () => {
    const b = packWeights({ k: 4, n: 3, b: new Int8Array(12) });
    mismatch({ k: 3, a: new Uint8Array(6), b }, /3x3 for b of qgemm\(\) but received 4x3/);
    mismatch({ k: 3, n: 4, a: new Uint8Array(6), b }, /transposed/);
    invalid({ b, bZeroPoint: 1 }, /Pass zeroPoint to packWeights/);
    invalid({ b, ldb: 3 }, /Pass ldb to packWeights/);
    b.dispose();
    b.dispose();
    refuses({ b }, 'ERR_Q8_DISPOSED', /disposed/);
  });
});

describe('packWeights', () => {
  it('refuses what qgemm refuses', () => {
    const code = (options: object) => () => packWeights({ k: 4, n: 3, b: new Int8Array(12), ...options });
    assert.throws(code({ k: 5 }), { code: 'ERR_Q8_SHAPE_MISMATCH' });
    assert.throws(code({ n: -1 }), { code: 'ERR_Q8_INVALID_ARGUMENT' });
    assert.throws(code({ zeroPoint: 200 }), { code: 'ERR_Q8_INVALID_ARGUMENT' });
    assert.throws(code({ zeropoint: 0 }), /Did you mean "zeroPoint"/);
  });

  it('copies: the source may change afterwards', () => {
    const source = Int8Array.of(1, 2, 3);
    using b = packWeights({ k: 3, n: 1, b: source });
    source.fill(9);
    assert.deepEqual([...qgemm({ m: 1, n: 1, k: 3, a: Uint8Array.of(1, 1, 1), b })], [6]);
    assert.ok(b.bytes >= 3);
  });
});

describe('qgemmAsync', () => {
  it('rejects, and does not throw, on bad arguments', async () => {
    const promise = qgemmAsync({ ...good(), m: -1 });
    await assert.rejects(promise, { code: 'ERR_Q8_INVALID_ARGUMENT' });
    await assert.rejects(qgemmAsync({ ...good(), signal: {} as AbortSignal }), /AbortSignal/);
  });
});

describe('cpuInfo', () => {
  it('describes this machine', () => {
    const info = cpuInfo();
    assert.ok(info.isa.supported.includes(info.isa.selected));
    assert.equal(info.isa.compiled.at(-1), 'scalar');
    assert.ok(info.threads >= 1 && info.affinity <= info.cores);
    assert.equal(info.kernels.s8u8.kernel, info.isa.selected);
    assert.throws(() => cpuInfo({ measure: 1 as never }), { code: 'ERR_Q8_INVALID_ARGUMENT' });
    assert.throws(() => cpuInfo({ measured: true } as never), /Did you mean "measure"/);
  });
});
