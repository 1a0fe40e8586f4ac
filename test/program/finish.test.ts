/** Steps that finish their results, or write a part of a row, against the same operators as steps of their own. */
import assert from 'node:assert/strict';
import type { Codes, FinishSpec, ProgramBuffer, ProgramStep, QConvStep, QGemmStep } from '../../binding';
import { addon, codes, dtypeOf, ISAS, Random, randomGeometry, zeroPoint } from './harness';

type Producer = QConvStep | QGemmStep;

const shaped = (signed: boolean, length: number): Codes => (signed ? new Int8Array(length) : new Uint8Array(length));

/** A convolution or product of `rows` x `columns` codes, without its y. */
function randomProducer(
  random: Random,
  isa: string,
  signed: boolean,
): { step: Producer; x: Codes; rows: number; columns: number } {
  const xSigned = random.below(2) === 0;
  const output = (columns: number): QConvStep['output'] => ({
    kind: 'requantize',
    multiplier: Float32Array.from({ length: columns }, () => (1 + random.below(1000)) / 2 ** 18),
    bias: null,
    zeroPoint: zeroPoint(signed, random),
    min: signed ? -128 : 0,
    max: signed ? 127 : 255,
  });
  const base = { x: 0, y: 1, xZeroPoint: zeroPoint(xSigned, random) };
  if (random.below(4) === 0) {
    const [m, n, k] = [1 + random.below(40), 1 + random.below(70), 1 + random.below(50)];
    const weights = addon.packGemm(codes(true, k * n, random), k, n, n, false, null, isa);
    return {
      step: { op: 'qgemm', ...base, m, weights, output: output(n) },
      x: codes(xSigned, m * k, random),
      rows: m,
      columns: n,
    };
  }
  const way = random.below(4);
  const channels = way === 0 ? 1 + random.below(40) : way === 1 ? 2 * (1 + random.below(8)) : 1 + random.below(90);
  const large = way === 3;
  const geometry = large
    ? pointwise(2, 20 + random.below(20), channels)
    : way === 2
      ? pointwise(1 + random.below(2), 1 + random.below(9), channels)
      : randomGeometry(random, channels, 4);
  const group = way === 0 ? channels : way === 1 ? 2 : 1;
  const outChannels = way === 0 ? channels : way === 1 ? 2 * (1 + random.below(20)) : 1 + random.below(60);
  const { kernelHeight, kernelWidth, batch, height, width, outHeight, outWidth } = geometry;
  const dims = [outChannels, channels / group, kernelHeight, kernelWidth];
  const w = codes(
    random.below(2) === 0,
    dims.reduce((a, b) => a * b),
    random,
  );
  const weights = addon.packConv(w, dims, group, null, isa);
  return {
    step: { op: 'qconv', ...base, ...geometry, weights, outChannels, group, output: output(outChannels) },
    x: codes(xSigned, batch * height * width * channels, random),
    rows: batch * outHeight * outWidth,
    columns: outChannels,
  };
}

function pointwise(batch: number, size: number, channels: number) {
  return {
    batch,
    height: size,
    width: size,
    channels,
    outHeight: size,
    outWidth: size,
    kernelHeight: 1,
    kernelWidth: 1,
    strideHeight: 1,
    strideWidth: 1,
    dilationHeight: 1,
    dilationWidth: 1,
    padTop: 0,
    padLeft: 0,
  };
}

/** A program with `inputs` as buffers 0, 1, ... and one output after them, run on one thread or more. */
function run(
  steps: ProgramStep[],
  inputs: Codes[],
  arena: Codes[],
  output: Codes,
  isa: string,
  threads: number,
): Codes {
  const buffers: ProgramBuffer[] = inputs.map((data, index) => ({
    kind: 'input',
    index,
    dtype: dtypeOf(data),
    elements: data.length,
  }));
  buffers.push({ kind: 'output', index: 0, dtype: dtypeOf(output), elements: output.length });
  let arenaBytes = 0;
  for (const data of arena) {
    buffers.push({ kind: 'arena', offset: arenaBytes, dtype: dtypeOf(data), elements: data.length });
    arenaBytes += Math.ceil(data.length / 64) * 64;
  }
  addon.createProgram({ buffers, steps, arenaBytes }, isa).runSync(inputs, [output], threads);
  return output;
}

describe('program: finished results', () => {
  for (const isa of ISAS) {
    it(`equal those of separate steps, in rows of any stride (${isa})`, () => {
      for (let seed = 1; seed <= 60; seed++) {
        const random = new Random(seed);
        const signed = random.below(2) === 0;
        const { step, x, rows, columns } = randomProducer(random, isa, signed);
        const inputs: Codes[] = [x];
        const parts = Array.from({ length: random.below(4) }, (): FinishSpec => {
          if (random.below(3) === 0)
            return { kind: 'lut', table: Uint8Array.from({ length: 256 }, () => random.below(256)) };
          const operandRepeats = random.below(2) === 0;
          const operandSigned = random.below(2) === 0;
          return {
            kind: random.pick(['add', 'sub', 'mul', 'div'] as const),
            operand: inputs.push(codes(operandSigned, operandRepeats ? columns : rows * columns, random)) - 1,
            operandFirst: random.below(2) === 0,
            operandRepeats,
            scale: 0.02,
            zeroPoint: zeroPoint(signed, random),
            operandScale: 0.03,
            operandZeroPoint: zeroPoint(operandSigned, random),
            yScale: 0.025,
            yZeroPoint: zeroPoint(signed, random),
          };
        });
        const y = inputs.length;
        // One after the other, through buffers behind the output.
        const steps: ProgramStep[] = [{ ...step, y: parts.length === 0 ? y : y + 1 }];
        const arena = parts.map(() => shaped(signed, rows * columns));
        parts.forEach((part, i) => {
          const [from, to] = [y + 1 + i, i === parts.length - 1 ? y : y + 2 + i];
          if (part.kind === 'lut') {
            steps.push({ op: 'lut', x: from, y: to, table: part.table });
            return;
          }
          const own = { id: from, strides: [columns, 1], scale: part.scale, zeroPoint: part.zeroPoint };
          const other = {
            id: part.operand,
            strides: [part.operandRepeats ? 0 : columns, 1],
            scale: part.operandScale,
            zeroPoint: part.operandZeroPoint,
          };
          const [a, b] = part.operandFirst ? [other, own] : [own, other];
          steps.push({
            op: 'qbinary',
            kind: part.kind,
            a: a.id,
            b: b.id,
            y: to,
            shape: [rows, columns],
            aStrides: a.strides,
            bStrides: b.strides,
            aScale: a.scale,
            aZeroPoint: a.zeroPoint,
            bScale: b.scale,
            bZeroPoint: b.zeroPoint,
            yScale: part.yScale,
            yZeroPoint: part.yZeroPoint,
          });
        });
        const want = run(steps, inputs, arena, shaped(signed, rows * columns), isa, 1);
        const yOffset = random.below(3) * 5;
        const yStride = columns + yOffset + random.below(3) * 7;
        const expected = shaped(signed, rows * yStride + 9).fill(77);
        for (let r = 0; r < rows; r++)
          expected.set(want.subarray(r * columns, (r + 1) * columns), r * yStride + yOffset);
        for (const threads of [1, 2]) {
          const fused = { ...step, y, finish: parts, yStride, yOffset };
          const got = run([fused], inputs, [], shaped(signed, expected.length).fill(77), isa, threads);
          assert.deepEqual(got, expected, `seed ${seed}, ${threads} threads: ${step.op} ${parts.map((p) => p.kind)}`);
        }
      }
    });
  }

  it('refuse what does not fit', () => {
    const random = new Random(1);
    const weights = addon.packGemm(codes(true, 8 * 4, random), 8, 4, 4, false, null);
    const output = {
      kind: 'requantize',
      multiplier: Float32Array.of(0.1),
      bias: null,
      zeroPoint: 0,
      min: 0,
      max: 255,
    } as const;
    const step: QGemmStep = { op: 'qgemm', x: 0, y: 1, m: 3, weights, xZeroPoint: 0, output };
    const table = new Uint8Array(256);
    const binary = {
      kind: 'add',
      operand: 0,
      operandFirst: false,
      operandRepeats: false,
      scale: 1,
      zeroPoint: 0,
      operandScale: 1,
      operandZeroPoint: 0,
      yScale: 1,
      yZeroPoint: 0,
    } as const;
    const refuses = (change: object, message: RegExp, elements = 12): void => {
      assert.throws(
        () => run([{ ...step, ...change }], [new Uint8Array(24)], [], new Uint8Array(elements), 'scalar', 1),
        message,
      );
    };
    run([{ ...step, finish: [{ kind: 'lut', table }] }], [new Uint8Array(24)], [], new Uint8Array(12), 'scalar', 1);
    refuses({ finish: [{ kind: 'lut', table: table.subarray(1) }] }, /In finish: .*256.* for table/);
    refuses({ finish: [{ ...binary, kind: 'max' }] }, /known kind/);
    refuses({ finish: [{ ...binary, operand: 9 }] }, /for operand/);
    refuses({ finish: [{ ...binary, yScale: 0 }] }, /yScale/);
    refuses({ finish: [{ ...binary, zeroPoint: -1 }] }, /zeroPoint/);
    refuses({ finish: 'lut' }, /array of objects for finish/);
    refuses({ finish: [{ ...binary, operand: 2 }] }, /for operand/);
    refuses({ yStride: 3, yOffset: 0 }, /yStride/);
    refuses({ yStride: 6, yOffset: 3 }, /yStride/, 99);
    refuses({ yStride: 6, yOffset: 2 }, /elements/, 17);
    refuses({ yStride: 2 ** 31 - 1, yOffset: 2 ** 31 - 9 }, /elements/);
    run([{ ...step, yStride: 6, yOffset: 2 }], [new Uint8Array(24)], [], new Uint8Array(18), 'scalar', 1);
  });
});
