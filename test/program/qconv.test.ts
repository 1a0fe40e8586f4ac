/** 8-bit convolution against its definition: random geometry, all type pairs, groups, depthwise, ends of the ranges. */
import assert from 'node:assert/strict';
import type { Codes, OutputSpec, WindowGeometry } from '../../binding';
import {
  addon,
  codes,
  forWindows,
  ISAS,
  outputReference,
  Random,
  randomGeometry,
  randomOutput,
  runStep,
  zeroPoint,
} from './harness';

interface Case {
  geometry: WindowGeometry;
  group: number;
  outChannels: number;
  x: Codes;
  w: Codes;
  wZeroPoint: Codes | null;
  xZeroPoint: number;
}

function makeCase(random: Random, geometry: WindowGeometry, group: number, outChannels: number): Case {
  const xSigned = random.below(2) === 0;
  const wSigned = random.below(2) === 0;
  const { batch, height, width, channels, kernelHeight, kernelWidth } = geometry;
  const w = codes(wSigned, outChannels * (channels / group) * kernelHeight * kernelWidth, random);
  // Half of the weights are such that no pair of products saturates 16 bits, which has a form of its own on some CPUs.
  const middle = wSigned ? 0 : 128;
  if (random.below(2)) for (const [i, code] of w.entries()) w[i] = middle + Math.trunc((code - middle) / 2);
  const zeroPoints = random.below(4);
  return {
    geometry,
    group,
    outChannels,
    x: codes(xSigned, batch * height * width * channels, random),
    w,
    wZeroPoint:
      zeroPoints === 0
        ? null
        : zeroPoints === 1
          ? codes(wSigned, outChannels, random)
          : (w.constructor as typeof Int8Array).of(wSigned ? random.pick([0, 9]) : random.pick([128, 0, 255])),
    xZeroPoint: zeroPoint(xSigned, random),
  };
}

function accumulators({ geometry, group, outChannels, x, w, wZeroPoint, xZeroPoint }: Case): Int32Array {
  const depth = geometry.channels / group;
  const outputs = outChannels / group;
  const taps = geometry.kernelHeight * geometry.kernelWidth;
  const acc = new Int32Array(geometry.batch * geometry.outHeight * geometry.outWidth * outChannels);
  forWindows(geometry, (pixel, inside) => {
    for (let m = 0; m < outChannels; m++) {
      const first = Math.floor(m / outputs) * depth;
      const zb = wZeroPoint === null ? 0 : wZeroPoint[wZeroPoint.length === 1 ? 0 : m];
      let sum = 0;
      for (const [tap, at] of inside) {
        for (let c = 0; c < depth; c++) {
          sum += (x[at + first + c] - xZeroPoint) * (w[(m * depth + c) * taps + tap] - zb);
        }
      }
      acc[pixel * outChannels + m] = sum;
    }
  });
  return acc;
}

function check(problem: Case, random: Random, label: string): void {
  const acc = accumulators(problem);
  const [output, y] = randomOutput(problem.outChannels, acc.length, random);
  const expected = (y.constructor as typeof Float32Array).from(acc, (v, i) =>
    outputReference(v, i % problem.outChannels, output as OutputSpec),
  );
  const { geometry, group, outChannels, x, w, wZeroPoint, xZeroPoint } = problem;
  const { channels, kernelHeight, kernelWidth } = geometry;
  for (const isa of ISAS) {
    for (const threads of [1, 2]) {
      (y as Float32Array).fill(77);
      const weights = addon.packConv(
        w,
        [outChannels, channels / group, kernelHeight, kernelWidth],
        group,
        wZeroPoint,
        isa,
      );
      const step = { op: 'qconv', x: 0, y: 1, weights, xZeroPoint, outChannels, group, output, ...geometry } as const;
      runStep(step, [x], y, isa, threads);
      assert.deepEqual(
        y,
        expected,
        `${label} ${isa} threads ${threads} ${JSON.stringify({ ...geometry, group, outChannels })}`,
      );
    }
  }
}

describe('program: qconv', () => {
  it('equals the definition for random geometry, types, groups and outputs', () => {
    const random = new Random(1);
    for (let i = 0; i < 300; i++) {
      const group = random.pick([1, 1, 1, 2, 4]);
      const channels = random.pick([1, 3, 4, 8, 16, 17, 33, 64]) * (random.below(3) ? 1 : group);
      const divides = channels % group === 0 ? group : 1;
      const geometry = randomGeometry(random, channels);
      const outChannels = divides * random.pick([1, 2, 5, 16, 17, 31]);
      check(makeCase(random, geometry, divides, outChannels), random, `case ${i}`);
    }
  }).timeout(120_000);

  it('equals the definition for depthwise windows', () => {
    const random = new Random(2);
    for (const channels of [1, 3, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 130]) {
      for (const kernel of [1, 2, 3, 4, 5, 7]) {
        const geometry = { ...randomGeometry(random, channels, 3), kernelHeight: kernel, kernelWidth: kernel };
        check(makeCase(random, geometry, channels, channels), random, `${channels} channels, ${kernel}x${kernel}`);
      }
    }
  }).timeout(120_000);

  it('equals the definition for a channel multiplier', () => {
    const random = new Random(3);
    for (let i = 0; i < 10; i++) check(makeCase(random, randomGeometry(random, 6, 3), 6, 12), random, `case ${i}`);
  });

  it('reads a pointwise convolution in place, with and without groups', () => {
    const random = new Random(4);
    for (const [channels, group] of [
      [1, 1],
      [17, 1],
      [64, 1],
      [64, 4],
    ]) {
      const geometry = {
        ...{ batch: 2, height: 7, width: 5, channels, outHeight: 7, outWidth: 5, kernelHeight: 1, kernelWidth: 1 },
        ...{ strideHeight: 1, strideWidth: 1, dilationHeight: 1, dilationWidth: 1, padTop: 0, padLeft: 0 },
      };
      check(makeCase(random, geometry, group, 36), random, `${channels} channels`);
    }
  });

  it('splits large images over threads without changing a bit', () => {
    const random = new Random(5);
    for (const [channels, outChannels, group] of [
      [3, 16, 1],
      [24, 40, 1],
      [48, 48, 48],
    ]) {
      const geometry = {
        ...{ batch: 2, height: 61, width: 59, channels, outHeight: 31, outWidth: 30, kernelHeight: 3, kernelWidth: 3 },
        ...{ strideHeight: 2, strideWidth: 2, dilationHeight: 1, dilationWidth: 1, padTop: 1, padLeft: 1 },
      };
      check(makeCase(random, geometry, group, outChannels), random, `${channels} channels`);
    }
  }).timeout(60_000);

  it('keeps a padded image that would be far larger than the image out of memory', () => {
    const random = new Random(6);
    const geometry = {
      ...{ batch: 1, height: 3, width: 3, channels: 1, outHeight: 2, outWidth: 2, kernelHeight: 2, kernelWidth: 2 },
      ...{
        strideHeight: 1_000_000,
        strideWidth: 1_000_000,
        dilationHeight: 1,
        dilationWidth: 1,
        padTop: 1,
        padLeft: 1,
      },
    };
    check(makeCase(random, geometry, 1, 3), random, 'wide stride');
  });
});
