/**
 * `npm run bench -- gemm`: qgemm with packed weights beside onnxruntime-node's MatMulInteger with a constant B, in the same
 * process, on the same threads, in turns.
 */
import * as ort from 'onnxruntime-node';
import { Graph, Value } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { cpuInfo, packWeights, qgemm, Tensor } from '../../lib';
import { loadBinding } from '../../lib/binding/load';
import { measurePeak } from '../../lib/kernels/cpu-info';
import { formatTable } from '../../lib/cli/ui/table';
import { formatDuration } from '../../lib/cli/ui/units';
import { writeModel } from '../../lib/onnx/write';
import { type Contender, medians, percentile } from './rounds';

/** Of one call of the peak loop. */
const PEAK_MILLISECONDS = 2;

/** [M, N, K]: single rows, transformer projections, squares, and the convolutions of ResNet-50 seen as GEMM. */
const SHAPES: readonly (readonly [number, number, number])[] = [
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

export type TypePair = 'u8s8' | 'u8u8' | 's8s8' | 's8u8';

export interface GemmOptions {
  pairs: readonly TypePair[];
  threads: readonly number[];
  /** Only shapes whose "MxNxK" holds this text. */
  filter: string;
  milliseconds: number;
  weights: WeightKind;
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
  /** onnxruntime-node's time; null where it has no kernel for the types. */
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

export function formatGemm(rows: readonly GemmRow[]): string {
  const cells = rows.map((row) => [
    row.pair,
    row.weights,
    row.shape.join(' x '),
    row.threads,
    formatDuration(row.milliseconds),
    row.gmacPerSecond.toFixed(1),
    `${row.percentOfPeak.toFixed(0)} %`,
    row.ortMilliseconds === null ? null : formatDuration(row.ortMilliseconds),
    row.ortMilliseconds === null ? null : `${(row.ortMilliseconds / row.milliseconds).toFixed(2)}x`,
  ]);
  const header = ['types', 'weights', 'M x N x K', 'threads', 'time', 'GMAC/s', 'of peak', 'onnxruntime', 'faster'];
  return formatTable(header, cells, { align: 'lllrrrrrr' });
}

/** What the numbers depend on. */
export interface Machine {
  cpu: string;
  isa: string;
  threads: number;
  node: string;
  onnxruntime: string;
  /** Of one thread, measured on registers. */
  peakGmacPerSecond: number;
  /** Reading speed of one thread, nearest level first; a level holds up to `bytes`. */
  bandwidth: { name: string; bytes: number; gigabytesPerSecond: number }[];
}

export function machine(): Machine {
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
    onnxruntime: ort.env.versions.node ?? 'unknown',
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
    `${cpu}, ${isa}, ${threads} threads, Node ${node}, onnxruntime-node ${onnxruntime}; ` +
    `one thread: peak ${peakGmacPerSecond.toFixed(1)} GMAC/s, reads ${reads.join(', ')}`
  );
}

async function measure(
  pair: TypePair,
  shape: readonly [number, number, number],
  threads: number,
  { milliseconds, weights: kind }: GemmOptions,
): Promise<GemmRow> {
  const [m, n, k] = shape;
  const a = codes(pair[0], m * k);
  const b = WEIGHTS[kind](pair[2], k * n);
  using weights = packWeights({ k, n, b });
  const out = new Int32Array(m * n);
  // The peak takes its turns like the others: a core's clock drifts while a table is being made.
  const peaks: number[] = [];
  const contenders: Contender[] = [
    { run: () => qgemm({ m, k, n, a, b: weights, out, threads }) },
    { run: () => peaks.push(measurePeak(PEAK_MILLISECONDS)) },
  ];
  const baseline = pair === 's8u8' ? undefined : await ortContender(a, b, shape, threads);
  if (baseline) contenders.push(baseline);
  const [own, , ortMilliseconds = null] = await medians(contenders, milliseconds);
  const gmacPerSecond = (m * k * n) / own / 1e6;
  return {
    pair,
    weights: kind,
    shape,
    threads,
    milliseconds: own,
    gmacPerSecond,
    percentOfPeak: (100 * gmacPerSecond) / (percentile(peaks, 50) * threads),
    ortMilliseconds,
  };
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
  a: Uint8Array | Int8Array,
  b: Uint8Array | Int8Array,
  [m, n, k]: readonly [number, number, number],
  threads: number,
): Promise<Contender> {
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
