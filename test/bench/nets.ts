/**
 * `npm run bench -- nets`: whole networks in q8 beside onnxruntime-node, on the same file and threads, in turns; what
 * loading them costs; and how many runs at once scale while the event loop goes on.
 */
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { InferenceSession, type Tensor } from '../../lib';
import { randomFeeds } from '../../lib/readers/random';
import { formatTable } from '../../lib/cli/ui/table';
import { formatBytes, formatDuration } from '../../lib/cli/ui/units';
import { type Footprint, footprint } from './footprint';
import { imageFeed, modelFile, NETWORKS } from './networks';
import { percentile, rounds } from './rounds';
import { loadRuntime, type RuntimeName } from './runtimes';

const RUNTIMES: readonly RuntimeName[] = ['q8', 'onnxruntime'];
/** Runs in flight at once in the measurement of throughput. */
const CONCURRENT = 8;

/** Latencies of one runtime in milliseconds. */
export interface Latency {
  p50: number;
  p90: number;
  p99: number;
  imagesPerSecond: number;
}

export interface NetRow {
  model: string;
  threads: number;
  batch: number;
  q8: Latency;
  onnxruntime: Latency;
  /** onnxruntime's median divided by q8's. */
  ratio: number;
}

/** One process that has loaded the model for one thread and run it a few times. */
export interface FootprintRow {
  model: string;
  q8: Footprint;
  onnxruntime: Footprint;
}

/** Many runs at once, in q8. */
export interface ThroughputRow {
  model: string;
  concurrent: number;
  oneThreadPerSecond: number;
  perSecond: number;
  scaling: number;
  /** Delay of a timer of 1 ms meanwhile, 99th percentile in milliseconds. */
  eventLoopDelay: number;
}

export interface NetOptions {
  /** Models to measure as they are; the networks of the bench when there are none. */
  models: readonly string[];
  threads: readonly number[];
  batches: readonly number[];
  shapes: ReadonlyMap<string, readonly number[]>;
  /** Only networks whose name holds this text. */
  filter: string;
  /** Time for each contender, in `rounds` turns. */
  milliseconds: number;
  rounds: number;
  /** Quantizes the networks anew. */
  rebuild: boolean;
  /** What to measure. */
  parts: readonly NetPart[];
}

export const NET_PARTS = ['latency', 'footprint', 'throughput'] as const;
export type NetPart = (typeof NET_PARTS)[number];

export interface NetResults {
  latency: NetRow[];
  footprint: FootprintRow[];
  throughput: ThroughputRow[];
}

/** A model and its feeds by batch. */
interface Subject {
  name: string;
  model: string;
  /** Undefined when the model has no such batch. */
  feed(batch: number): Record<string, Tensor> | undefined;
}

export async function benchNets(options: NetOptions, onProgress: (what: string) => void): Promise<NetResults> {
  const results: NetResults = { latency: [], footprint: [], throughput: [] };
  const subjects = options.models.length > 0 ? await ownSubjects(options) : await networkSubjects(options, onProgress);
  for (const subject of subjects) {
    onProgress(subject.name);
    if (options.parts.includes('latency')) results.latency.push(...(await measureLatency(subject, options)));
    if (options.parts.includes('footprint')) results.footprint.push(await measureFootprint(subject));
    if (options.parts.includes('throughput')) results.throughput.push(await measureThroughput(subject, options));
  }
  return results;
}

export function formatNets({ latency, footprint, throughput }: NetResults): string {
  const tables = [];
  if (latency.length > 0) {
    const cells = latency.map(({ model, threads, batch, q8, onnxruntime, ratio }) => [
      model,
      threads,
      batch,
      ...[q8.p50, q8.p90, q8.p99].map(formatDuration),
      q8.imagesPerSecond.toFixed(1),
      formatDuration(onnxruntime.p50),
      onnxruntime.imagesPerSecond.toFixed(1),
      `${ratio.toFixed(2)}x`,
    ]);
    const header = 'model,threads,batch,q8 p50,p90,p99,images/s,onnxruntime,images/s,faster'.split(',');
    tables.push(formatTable(header, cells, { align: 'lrrrrrrrrr' }));
  }
  if (footprint.length > 0) {
    const cells = footprint.map(({ model, q8, onnxruntime }) => [
      model,
      formatDuration(q8.createMilliseconds),
      formatDuration(onnxruntime.createMilliseconds),
      formatBytes(q8.peakBytes),
      formatBytes(onnxruntime.peakBytes),
      formatBytes(q8.residentBytes),
      formatBytes(onnxruntime.residentBytes),
    ]);
    const header = 'model,q8 create,onnxruntime,q8 peak,onnxruntime,q8 resident,onnxruntime'.split(',');
    tables.push(formatTable(header, cells, { align: 'lrrrrrr' }));
  }
  if (throughput.length > 0) {
    const cells = throughput.map((row) => [
      row.model,
      row.concurrent,
      row.oneThreadPerSecond.toFixed(1),
      row.perSecond.toFixed(1),
      `${row.scaling.toFixed(2)}x`,
      formatDuration(row.eventLoopDelay),
    ]);
    const header = 'model,at once,one thread/s,all/s,scaling,timer delay p99'.split(',');
    tables.push(formatTable(header, cells, { align: 'lrrrrr' }));
  }
  return tables.join('\n\n');
}

async function networkSubjects(
  { filter, rebuild }: NetOptions,
  onProgress: (what: string) => void,
): Promise<Subject[]> {
  const subjects: Subject[] = [];
  for (const network of NETWORKS.filter(({ name }) => name.includes(filter))) {
    onProgress(`quantizing ${network.name}`);
    const model = await modelFile(network, rebuild);
    subjects.push({ name: network.name, model, feed: (batch) => imageFeed(network, batch, 1) });
  }
  return subjects;
}

async function ownSubjects({ models, shapes }: NetOptions): Promise<Subject[]> {
  return Promise.all(
    models.map(async (path): Promise<Subject> => {
      if (!existsSync(path)) throw new Error(`There is no model ${path}.`);
      const session = await InferenceSession.create(path);
      const [feed] = randomFeeds(session.inputMetadata, 1, shapes);
      await session.release();
      return { name: basename(path), model: resolve(path), feed: (batch) => (batch === 1 ? feed : undefined) };
    }),
  );
}

async function measureLatency({ name, model, feed }: Subject, options: NetOptions): Promise<NetRow[]> {
  const rows: NetRow[] = [];
  for (const threads of options.threads) {
    const runners = await Promise.all(RUNTIMES.map(async (runtime) => (await loadRuntime(runtime))(model, threads)));
    for (const batch of options.batches) {
      const images = feed(batch);
      if (!images) continue;
      const samples = await rounds(
        runners.map((runner) => ({ run: () => runner.run(images), async: true })),
        options.milliseconds,
        options.rounds,
      );
      const [q8, onnxruntime] = samples.map((of) => latencyOf(of.flat(), batch));
      rows.push({ model: name, threads, batch, q8, onnxruntime, ratio: onnxruntime.p50 / q8.p50 });
    }
    for (const runner of runners) await runner.release();
  }
  return rows;
}

function latencyOf(samples: readonly number[], batch: number): Latency {
  const [p50, p90, p99] = [50, 90, 99].map((percent) => percentile(samples, percent));
  return { p50, p90, p99, imagesPerSecond: (1000 * batch) / p50 };
}

async function measureFootprint({ name, model, feed }: Subject): Promise<FootprintRow> {
  const [[input, { dims }]] = Object.entries(feed(1)!);
  const [q8, onnxruntime] = [
    await footprint({ runtime: 'q8', model, threads: 1, input, dims: [...dims] }),
    await footprint({ runtime: 'onnxruntime', model, threads: 1, input, dims: [...dims] }),
  ];
  return { model: name, q8, onnxruntime };
}

async function measureThroughput({ name, model, feed }: Subject, { milliseconds }: NetOptions): Promise<ThroughputRow> {
  const images = feed(1)!;
  await using alone = await InferenceSession.create(model, { threads: 1 });
  await using shared = await InferenceSession.create(model);
  const oneThreadPerSecond = await runsPerSecond(alone, images, 1, milliseconds);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const perSecond = await runsPerSecond(shared, images, CONCURRENT, milliseconds);
  delay.disable();
  return {
    model: name,
    concurrent: CONCURRENT,
    oneThreadPerSecond,
    perSecond,
    scaling: perSecond / oneThreadPerSecond,
    // The histogram counts the interval itself.
    eventLoopDelay: Math.max(0, delay.percentile(99) / 1e6 - 1),
  };
}

/** Keeps `concurrent` runs in flight. */
async function runsPerSecond(
  session: InferenceSession,
  feed: Record<string, Tensor>,
  concurrent: number,
  milliseconds: number,
): Promise<number> {
  await Promise.all(Array.from({ length: concurrent }, () => session.run(feed)));
  const started = performance.now();
  let runs = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() - started < milliseconds) {
      await session.run(feed);
      runs++;
    }
  };
  await Promise.all(Array.from({ length: concurrent }, loop));
  return (1000 * runs) / (performance.now() - started);
}
