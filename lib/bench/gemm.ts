/**
 * What `q8 bench gemm` and `npm run bench -- gemm` measure: qgemm with packed weights beside onnxruntime-node's MatMulInteger
 * with a constant B, in the same process, on the same threads, in turns.
 */
import type * as Ort from 'onnxruntime-node';
import { loadBinding } from '../binding/load';
import { Graph, Value } from '../graph/graph';
import { graphToProto } from '../graph/to-proto';
import { cpuInfo, measurePeak } from '../kernels/cpu-info';
import { packWeights } from '../kernels/packed-weights';
import { qgemm } from '../kernels/qgemm';
import { writeModel } from '../onnx/write';
import { Tensor } from '../tensor/tensor';

/** Of one call of the peak loop. */
const PEAK_MILLISECONDS = 2;

/** [M, N, K]: single rows, transformer projections, squares, and the convolutions of ResNet-50 seen as GEMM. */
export const SHAPES: readonly (readonly [number, number, number])[] = [
  [1, 1024, 1024],
  [1, 4096, 4096],
  [16, 1024, 1024],
  [64, 768, 768],
  [128, 768, 768],
  [128, 3072, 768],
  [128, 768, 3072],
  [384, 1024, 1024],
  [512, 512, 512],
  [1024, 1024, 1024],
  [2048, 2048, 2048],
  [3136, 64, 576],
  [784, 128, 1152],
  [196, 256, 2304],
  [49, 512, 4608],
  [12544, 64, 147],
];

/** Types of A and B. */
export const TYPE_PAIRS = ['u8s8', 'u8u8', 's8s8', 's8u8'] as const;
export type TypePair = (typeof TYPE_PAIRS)[number];

export interface GemmOptions {
  pairs: readonly TypePair[];
  threads: readonly number[];
  /** Only shapes whose "MxNxK" holds this text. */
  filter: string;
  weights: WeightKind;
  /** onnxruntime-node, if it is to be measured. */
  ort?: typeof Ort;
  /** Median milliseconds of each function, called in turns. They may return promises. */
  medians(contenders: readonly GemmContender[]): Promise<number[]>;
}

export interface GemmContender {
  run(): unknown;
  /** Whether run() returns a promise. */
  async?: boolean;
}

/**
 * How the codes of B are distributed. 'uniform': as bad as it gets for instructions that saturate. 'bell': a sum of four
 * uniform numbers, about as trained layers are; one pair in about 80 could saturate. 'narrow': 7 bits, as reduceRange
 * makes them; nothing saturates.
 */
export const WEIGHT_KINDS = ['uniform', 'bell', 'narrow'] as const;
export type WeightKind = (typeof WEIGHT_KINDS)[number];

export interface GemmRow {
  pair: TypePair;
  weights: WeightKind;
  shape: readonly [number, number, number];
  threads: number;
  milliseconds: number;
  gmacPerSecond: number;
  percentOfPeak: number;
  /** onnxruntime-node's time; null where it is missing or has no kernel for the types. */
  ortMilliseconds: number | null;
}

export async function benchGemm(options: GemmOptions, onRow: (row: GemmRow) => void): Promise<void> {
  for (const threads of options.threads) {
    for (const pair of options.pairs) {
      for (const shape of SHAPES) {
        if (shape.join('x').includes(options.filter)) onRow(await measure(pair, shape, threads, options));
      }
    }
  }
}

/** What the numbers depend on. */
export interface Machine {
  cpu: string;
  isa: string;
  threads: number;
  node: string;
  /** Its version; null if it is not measured. */
  onnxruntime: string | null;
  /** Of one thread, measured on registers. */
  peakGmacPerSecond: number;
  /** Reading speed of one thread, nearest level first; a level holds up to `bytes`. */
  bandwidth: { name: string; bytes: number; gigabytesPerSecond: number }[];
}

export function machine(ort: typeof Ort | undefined): Machine {
  const { cpu, isa, threads, versions, caches } = cpuInfo();
  const { measureBandwidth } = loadBinding();
  // Half a cache is surely in it; main memory shows beyond four times the last one.
  const levels = [
    { name: 'L2', bytes: caches.l2 },
    { name: 'L3', bytes: caches.l3 },
  ].filter(({ bytes }) => bytes > 0);
  const last = levels.at(-1)?.bytes ?? 1 << 26;
  return {
    cpu,
    isa: isa.selected,
    threads,
    node: versions.node,
    onnxruntime: ort?.env.versions.node ?? null,
    peakGmacPerSecond: measurePeak(),
    bandwidth: [
      ...levels.map(({ name, bytes }) => ({ name, bytes, gigabytesPerSecond: measureBandwidth(bytes / 2) })),
      { name: 'memory', bytes: Number.MAX_SAFE_INTEGER, gigabytesPerSecond: measureBandwidth(last * 4) },
    ],
  };
}

/** One line for people. */
export function describe({ cpu, isa, threads, node, onnxruntime, peakGmacPerSecond, bandwidth }: Machine): string {
  const reads = bandwidth.map(({ name, gigabytesPerSecond }) => `${name} ${gigabytesPerSecond.toFixed(0)} GB/s`);
  return (
    `${cpu}, ${isa}, ${threads} threads, Node ${node}, ${onnxruntime === null ? 'without onnxruntime-node' : `onnxruntime-node ${onnxruntime}`}; ` +
    `one thread: peak ${peakGmacPerSecond.toFixed(1)} GMAC/s, reads ${reads.join(', ')}`
  );
}

async function measure(
  pair: TypePair,
  shape: readonly [number, number, number],
  threads: number,
  { weights: kind, ort, medians }: GemmOptions,
): Promise<GemmRow> {
  const [m, n, k] = shape;
  const a = codes(pair[0], m * k);
  const b = WEIGHTS[kind](pair[2], k * n);
  using weights = packWeights({ k, n, b });
  const out = new Int32Array(m * n);
  // The peak takes its turns like the others: a core's clock drifts while a table is being made.
  const peaks: number[] = [];
  const contenders: GemmContender[] = [
    { run: () => qgemm({ m, k, n, a, b: weights, out, threads }) },
    { run: () => peaks.push(measurePeak(PEAK_MILLISECONDS)) },
  ];
  // It has no kernel for s8 x u8.
  const baseline = ort && pair !== 's8u8' ? await ortContender(ort, a, b, shape, threads) : undefined;
  if (baseline) contenders.push(baseline);
  const [own, , ortMilliseconds = null] = await medians(contenders);
  const gmacPerSecond = (m * k * n) / own / 1e6;
  return {
    pair,
    weights: kind,
    shape,
    threads,
    milliseconds: own,
    gmacPerSecond,
    percentOfPeak: (100 * gmacPerSecond) / (medianOf(peaks) * threads),
    ortMilliseconds,
  };
}

function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function codes(sign: string, length: number): Uint8Array | Int8Array {
  // Full range and no pattern that a cache line repeats.
  return sign === 'u'
    ? Uint8Array.from({ length }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24)
    : Int8Array.from({ length }, (_, i) => Math.imul(i, 0x9e3779b1) >> 24);
}

function bellCodes(sign: string, length: number): Uint8Array | Int8Array {
  const draw = (i: number): number => {
    let mixed = Math.imul(i + 1, 0x9e3779b1);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b);
    mixed ^= mixed >>> 13;
    return ((mixed >> 24) + ((mixed << 8) >> 24) + ((mixed << 16) >> 24) + ((mixed << 24) >> 24)) >> 2;
  };
  return sign === 'u'
    ? Uint8Array.from({ length }, (_, i) => draw(i) + 128)
    : Int8Array.from({ length }, (_, i) => draw(i));
}

function narrowCodes(sign: string, length: number): Uint8Array | Int8Array {
  return sign === 'u'
    ? Uint8Array.from({ length }, (_, i) => (Math.imul(i, 0x9e3779b1) >>> 25) + 64)
    : Int8Array.from({ length }, (_, i) => Math.imul(i, 0x9e3779b1) >> 25);
}

const WEIGHTS = { uniform: codes, bell: bellCodes, narrow: narrowCodes } satisfies Record<WeightKind, unknown>;

async function ortContender(
  ort: typeof Ort,
  a: Uint8Array | Int8Array,
  b: Uint8Array | Int8Array,
  [m, n, k]: readonly [number, number, number],
  threads: number,
): Promise<GemmContender> {
  const typeOf = (data: Uint8Array | Int8Array) => (data instanceof Int8Array ? 'int8' : 'uint8');
  const graph = new Graph('gemm', { opsets: new Map([['', 13]]) });
  const input = new Value('a', { dtype: typeOf(a), shape: [m, k] });
  const output = new Value('c', { dtype: 'int32', shape: [m, n] });
  graph.inputs.push(input);
  graph.addNode({
    name: 'gemm',
    op: 'MatMulInteger',
    inputs: [input, graph.newConstant('b', new Tensor(typeOf(b), b, [k, n]))],
    outputs: [output],
  });
  graph.outputs.push(output);
  const session = await ort.InferenceSession.create(writeModel(graphToProto(graph)), {
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
    // Its idle threads would otherwise spin on the cores while q8 is measured.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  const feeds = { a: new ort.Tensor(typeOf(a), a, [m, k]) };
  // A preallocated output, as qgemm has one.
  const fetches = { c: new ort.Tensor('int32', new Int32Array(m * n), [m, n]) };
  return { run: () => session.run(feeds, fetches), async: true };
}
