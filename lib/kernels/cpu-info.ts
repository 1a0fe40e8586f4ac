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
  /** Largest register tile, rows x columns. */
  tile: string;
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
  const kernel: KernelInfo = { kernel: native.isa.selected, tile: native.tiles[0] };
  const info: CpuInfo = {
    ...native,
    arch: process.arch,
    kernels: { u8s8: { ...kernel }, u8u8: { ...kernel }, s8s8: { ...kernel }, s8u8: { ...kernel } },
    versions: { q8: packageVersion(), node: process.versions.node },
  };
  if (measure) {
    const [peak, reached] = [measurePeak(), measureQgemm()];
    info.measured = { peak, qgemm: reached, percentOfPeak: (100 * reached) / peak };
  }
  return info;
}

/** 10^9 multiply-adds per second of one thread on registers alone. Blocks for about 0.1 s. */
export function measurePeak(): number {
  return loadBinding().measurePeak();
}

function measureQgemm(): number {
  const size = 1024;
  using b = packWeights({ k: size, n: size, b: Int8Array.from({ length: size * size }, (_, i) => i % 251) });
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
