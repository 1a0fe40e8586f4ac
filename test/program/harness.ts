/** Builds one-step programs on every instruction set of this CPU, and random data for them. */
import type {
  BufferDType,
  Codes,
  Data,
  OutputSpec,
  ProgramBuffer,
  ProgramDescription,
  ProgramStep,
  WindowGeometry,
} from '../../binding';
import { loadBinding } from '../../lib/binding/load';
import { Random } from '../kernels/reference-qgemm';

export { Random };

export const addon = loadBinding();
export const ISAS: string[] = addon.cpuInfo().isa.supported;

const DTYPES: [new (length: number) => Data, BufferDType][] = [
  [Float32Array, 'float32'],
  [Uint8Array, 'uint8'],
  [Int8Array, 'int8'],
  [Int32Array, 'int32'],
  [BigInt64Array, 'int64'],
  [Float64Array, 'float64'],
  [Uint16Array, 'uint16'],
];

export function dtypeOf(data: Data): BufferDType {
  const found = DTYPES.find(([ctor]) => data instanceof ctor);
  if (!found) throw new Error(`no dtype for ${data.constructor.name}`);
  return found[1];
}

/** A program whose inputs are buffers 0, 1, ... and whose only output is the buffer after them. */
export function describeStep(step: ProgramStep, inputs: Data[], output: Data): ProgramDescription {
  const buffers: ProgramBuffer[] = inputs.map((data, index) => ({
    kind: 'input',
    index,
    dtype: dtypeOf(data),
    elements: data.length,
  }));
  buffers.push({ kind: 'output', index: 0, dtype: dtypeOf(output), elements: output.length });
  return { buffers, steps: [step], arenaBytes: 0 };
}

/** Runs one step on one ISA and returns `output`, filled. */
export function runStep<T extends Data>(step: ProgramStep, inputs: Data[], output: T, isa: string, threads = 1): T {
  addon.createProgram(describeStep(step, inputs, output), isa).runSync(inputs, [output], threads);
  return output;
}

export function floats(length: number, random: Random, scale = 4): Float32Array {
  return Float32Array.from({ length }, () => (random.below(2 ** 24) / 2 ** 23 - 1) * scale);
}

export function codes(signed: boolean, length: number, random: Random): Codes {
  const fill = random.below(6);
  const [low, high] = signed ? [-128, 127] : [0, 255];
  const data = signed ? new Int8Array(length) : new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    data[i] = fill === 0 ? low : fill === 1 ? high : fill === 2 ? (i % 2 ? low : high) : low + random.below(256);
  }
  return data;
}

/** A zero point of the type, often at an end of its range. */
export function zeroPoint(signed: boolean, random: Random): number {
  return signed ? random.pick([-128, 127, 0, 5]) : random.pick([0, 255, 128, 3]);
}

export const roundHalfEven = (x: number): number => {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
};

/** operators.md 1.1 in float32: NaN gives the lower bound. */
export function quantizeReference(x: number, scale: number, zp: number, signed: boolean): number {
  const [min, max] = signed ? [-128, 127] : [0, 255];
  const v = Math.fround(Math.fround(x) / Math.fround(scale));
  const clamped = v > min - zp ? Math.min(v, max - zp) : min - zp;
  return roundHalfEven(clamped) + zp;
}

export const dequantizeReference = (q: number, scale: number, zp: number): number =>
  Math.fround(Math.fround(q - zp) * Math.fround(scale));

/** Random geometry of a window over a small image. */
export function randomGeometry(random: Random, channels: number, maxKernel = 7): WindowGeometry {
  const kernelHeight = 1 + random.below(maxKernel);
  const kernelWidth = 1 + random.below(maxKernel);
  const strideHeight = 1 + random.below(3);
  const strideWidth = 1 + random.below(3);
  const dilationHeight = 1 + random.below(3);
  const dilationWidth = 1 + random.below(3);
  const reachHeight = (kernelHeight - 1) * dilationHeight + 1;
  const reachWidth = (kernelWidth - 1) * dilationWidth + 1;
  const [padTop, padBottom] = [random.below(reachHeight), random.below(reachHeight)];
  const [padLeft, padRight] = [random.below(reachWidth), random.below(reachWidth)];
  const height = Math.max(1, reachHeight - padTop - padBottom) + random.below(6);
  const width = Math.max(1, reachWidth - padLeft - padRight) + random.below(6);
  return {
    batch: 1 + random.below(3),
    height,
    width,
    channels,
    outHeight: Math.floor((height + padTop + padBottom - reachHeight) / strideHeight) + 1,
    outWidth: Math.floor((width + padLeft + padRight - reachWidth) / strideWidth) + 1,
    kernelHeight,
    kernelWidth,
    strideHeight,
    strideWidth,
    dilationHeight,
    dilationWidth,
    padTop,
    padLeft,
  };
}

/** Calls visit(output pixel, taps inside the image as [kernel index, first element of the pixel]). */
export function forWindows(g: WindowGeometry, visit: (pixel: number, taps: [number, number][]) => void): void {
  for (let n = 0, pixel = 0; n < g.batch; n++) {
    for (let oy = 0; oy < g.outHeight; oy++) {
      for (let ox = 0; ox < g.outWidth; ox++, pixel++) {
        const taps: [number, number][] = [];
        for (let ky = 0; ky < g.kernelHeight; ky++) {
          for (let kx = 0; kx < g.kernelWidth; kx++) {
            const y = oy * g.strideHeight + ky * g.dilationHeight - g.padTop;
            const x = ox * g.strideWidth + kx * g.dilationWidth - g.padLeft;
            if (y < 0 || x < 0 || y >= g.height || x >= g.width) continue;
            taps.push([ky * g.kernelWidth + kx, ((n * g.height + y) * g.width + x) * g.channels]);
          }
        }
        visit(pixel, taps);
      }
    }
  }
}

/** What a step's OutputSpec makes of an accumulator of column `c`. */
export function outputReference(acc: number, c: number, spec: OutputSpec): number {
  const bias = spec.bias?.length ? spec.bias[c] : 0;
  if (spec.kind === 'int32') return (acc + bias) | 0;
  if (spec.kind === 'dequantize') {
    const scale = spec.scale.length === 1 ? spec.scale[0] : spec.scale[c];
    const scaled = Math.fround(Math.fround(acc) * scale);
    return spec.bias ? Math.fround(scaled + bias) : scaled;
  }
  const multiplier = spec.multiplier.length === 1 ? spec.multiplier[0] : spec.multiplier[c];
  const scaled = Math.fround(Math.fround((acc + bias) | 0) * multiplier);
  const clamped = Math.min(Math.max(scaled, spec.min - spec.zeroPoint), spec.max - spec.zeroPoint);
  return roundHalfEven(clamped) + spec.zeroPoint;
}

/** A random OutputSpec for `columns` columns and the array that takes its results. */
export function randomOutput(columns: number, elements: number, random: Random): [OutputSpec, Data] {
  const ints = () => (random.below(2) ? Int32Array.from({ length: columns }, () => random.below(20001) - 10000) : null);
  const scales = () =>
    Float32Array.from({ length: random.below(2) ? columns : 1 }, () => (1 + random.below(1000)) / 2 ** 16);
  switch (random.below(4)) {
    case 0:
      return [{ kind: 'int32', bias: ints() }, new Int32Array(elements)];
    case 1: {
      const bias = random.below(2) ? floats(columns, random) : null;
      return [{ kind: 'dequantize', scale: scales(), bias }, new Float32Array(elements)];
    }
    default: {
      const signed = random.below(2) === 0;
      const zp = zeroPoint(signed, random);
      const [low, high] = signed ? [-128, 127] : [0, 255];
      const min = random.below(3) === 0 ? zp : low;
      const max = random.below(3) === 0 ? Math.min(high, min + 60) : high;
      const spec = { kind: 'requantize' as const, multiplier: scales(), bias: ints(), zeroPoint: zp, min, max };
      return [spec, signed ? new Int8Array(elements) : new Uint8Array(elements)];
    }
  }
}
