/** What q8 found out about the CPU, and what it uses of it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadBinding, packageRoot } from '../binding/load';
import { checkOptionKeys, expected } from '../errors';
import { packWeights } from './packed-weights';
import { qgemm } from './qgemm';

/** The kernel that multiplies one pair of operand types. */
export interface KernelInfo {
  /** Instruction set. */
  kernel: string;
  /** What it multiplies with. */
  instruction: string;
  /** Largest register tile, rows x columns. */
  tile: string;
  /**
   * Instead, for weights of which packing proves that no pair of them saturates 16 bits: the sum of the positive ones of a
   * pair is at most 128, of the negative ones at least -128, or few pairs are not so. Only where it is faster.
   */
  bounded?: { instruction: string; tile: string };
}

export interface CpuInfo {
  cpu: string;
  /** process.arch. */
  arch: string;
  /** Of the features that q8 has a use for, those that the CPU and its operating system support. */
  features: string[];
  /** Instruction sets, best first. `forced`: Q8_ISA made the choice. */
  isa: { compiled: string[]; supported: string[]; selected: string; label: string; forced: boolean };
  /** By types of A and B, for example u8s8. */
  kernels: Record<'u8s8' | 'u8u8' | 's8s8' | 's8u8', KernelInfo>;
  /** All register tiles of the selected GEMM, most rows first. */
  tiles: string[];
  /** Logical CPUs of the machine, and those that this process may run on. */
  cores: number;
  affinity: number;
  /** CPUs granted by the container; 0 = no limit. */
  cgroupQuota: number;
  /** Threads that q8 uses; Q8_NUM_THREADS overrides. */
  threads: number;
  /** Bytes; 0 = unknown. */
  caches: { l1: number; l2: number; l3: number };
  versions: { q8: string; node: string };
  /** With `measure`: 10^9 multiply-adds per second of one thread. */
  measured?: {
    /** The multiply-add instructions alone, on registers. */
    peak: number;
    /** qgemm of 1024 x 1024 x 1024, u8 x s8, packed weights, int32 output. */
    qgemm: number;
    percentOfPeak: number;
    /** The same for bounded weights, where they are multiplied in another way. */
    bounded?: { qgemm: number; percentOfPeak: number };
  };
}

const KEYS = new Set(['measure']);

/**
 * Describes the CPU and q8's choices for it.
 * @param options.measure Also measure speed, which blocks for about a third of a second.
 * @throws Q8Error ERR_Q8_NO_BINARY, ERR_Q8_UNSUPPORTED_CPU
 */
export function cpuInfo(options: { measure?: boolean } = {}): CpuInfo {
  checkOptionKeys(options, KEYS, 'cpuInfo()');
  const { measure = false } = options;
  if (typeof measure !== 'boolean') throw expected('a boolean', 'measure', measure);
  const native = loadBinding().cpuInfo();
  const { gemm, ...rest } = native;
  const [any, bounded] = gemm.map(({ instruction, tiles }) => ({ instruction, tile: tiles[0] }));
  const kernel: KernelInfo = { kernel: native.isa.selected, ...any, ...(bounded && { bounded }) };
  const info: CpuInfo = {
    ...rest,
    tiles: gemm[0].tiles,
    arch: process.arch,
    kernels: { u8s8: { ...kernel }, u8u8: { ...kernel }, s8s8: { ...kernel }, s8u8: { ...kernel } },
    versions: { q8: packageVersion(), node: process.versions.node },
  };
  if (measure) {
    const peak = measurePeak();
    const reach = (largest: number) => {
      const reached = measureQgemm(largest);
      return { qgemm: reached, percentOfPeak: (100 * reached) / peak };
    };
    info.measured = { peak, ...reach(127), ...(bounded && { bounded: reach(64) }) };
  }
  return info;
}

/** 10^9 multiply-adds per second of one thread on registers alone. Blocks for about so many milliseconds. */
export function measurePeak(milliseconds = 100): number {
  return loadBinding().measurePeak(milliseconds);
}

/** With weights up to `largest`. */
function measureQgemm(largest: number): number {
  const size = 1024;
  const weights = Int8Array.from({ length: size * size }, (_, i) => (i % (2 * largest + 1)) - largest);
  using b = packWeights({ k: size, n: size, b: weights });
  const a = Uint8Array.from({ length: size * size }, (_, i) => i % 253);
  const out = new Int32Array(size * size);
  let best = Infinity;
  for (let round = 0; round < 8; round++) {
    const start = performance.now();
    qgemm({ m: size, n: size, k: size, a, b, out, threads: 1 });
    best = Math.min(best, performance.now() - start);
  }
  return size ** 3 / best / 1e6;
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}
