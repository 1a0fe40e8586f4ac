/**
 * Puts a quantized model beside its float original: errors of every tensor and weight, how values are distributed and
 * what the chosen ranges make of them, and the latency of both.
 */
import { checkOptionKeys, expected } from '../errors';
import { graphFromProto } from '../graph/from-proto';
import type { Graph } from '../graph/graph';
import { inferShapes } from '../graph/infer';
import { readModel } from '../onnx/read';
import { lookupOp } from '../ops/registry';
import { prepare } from '../passes';
import { fuseQdq } from '../passes/fuse-qdq';
import type { CodeParams } from '../passes/give-out';
import type { Analysis, Distribution, LatencyAnalysis, TensorAnalysis, WeightAnalysis } from '../report/analysis';
import { type ComparedTensor, compareGraphs, type Feed } from '../report/compare-graphs';
import { matchWeights, type TensorPair } from '../report/match-tensors';
import { interleave } from '../report/measure';
import { errorsOf } from '../report/metrics';
import { InferenceSession } from '../runtime/session';
import { bytesOf, codeRange, type QuantizedDType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';
import { ChannelObserver } from './algorithms/statistics';
import { feedsOf } from './calibrate';
import type { CalibrationData } from './options';
import { Histogram } from './observers/histogram';

export interface AnalyzeOptions {
  /** Also time both models, for about a second. Default false. */
  latency?: boolean;
  /** 0 (default) = all cores. */
  threads?: number;
  signal?: AbortSignal;
  /** Called before the first and after every sample. */
  onSample?: (done: number) => void;
}

/** Least number of bins that cover the largest magnitude while samples stream by. */
const OBSERVED_BINS = 1024;
/** Bins of the distributions that are given out. */
const SHOWN_BINS = 72;
/** Time for measuring latency. */
const BUDGET_MS = 1000;

/**
 * Compares any two models that have tensors in common, like a float model and what was quantized from it, in whatever form.
 *
 * @param reference, other paths or bytes of .onnx files.
 * @param feeds samples, as quantize() takes them for calibration; read once, memory does not grow with their number.
 * @throws ERR_Q8_INVALID_ARGUMENT when there are no samples, or no tensor of one model is known in the other by name.
 */
export async function compareModels(
  reference: string | Uint8Array,
  other: string | Uint8Array,
  feeds: CalibrationData,
  options: AnalyzeOptions = {},
): Promise<Analysis> {
  checkOptionKeys(options, new Set(['latency', 'threads', 'signal', 'onSample']), 'compareModels()');
  for (const [name, model] of Object.entries({ reference, other })) {
    if (typeof model !== 'string' && !(model instanceof Uint8Array))
      throw expected('a path or a Uint8Array', `the ${name} model`, model);
  }
  const [mine, theirs] = [await load(reference), await load(other)];
  return analyze(mine, theirs, feedsOf(feeds, mine), options);
}

async function load(source: string | Uint8Array): Promise<Graph> {
  const { model } = await readModel(source);
  const graph = graphFromProto(model);
  prepare(graph);
  return graph;
}

/** Compares prepared graphs, which are not changed. */
export async function analyze(
  reference: Graph,
  other: Graph,
  feeds: Iterable<Feed> | AsyncIterable<Feed>,
  options: AnalyzeOptions = {},
): Promise<Analysis> {
  const integer = other.clone();
  // Q/DQ pairs run as the integer operators that they stand for.
  fuseQdq(integer);
  inferShapes(integer, lookupOp);
  const histograms = new Map<string, Histogram>();
  const channels = new Map<string, ChannelObserver>();
  let sample: Feed | undefined;
  const { tensors, samples } = await compareGraphs(reference, integer, remember(feeds), {
    ...options,
    local: true,
    observe(name, data, dims) {
      const histogram = histograms.get(name) ?? new Histogram(OBSERVED_BINS);
      histograms.set(name, histogram);
      histogram.add(data);
      if (dims.length < 2) return;
      // Pictures have channels behind the batch, all else in the end.
      const observer = channels.get(name) ?? new ChannelObserver(dims.length > 3 ? 1 : dims.length - 1);
      channels.set(name, observer);
      observer.observe(data, dims);
    },
  });
  return {
    samples,
    tensors: tensors.map((tensor) => ({
      ...describeTensor(tensor, histograms.get(tensor.name)!),
      ...describeChannels(channels.get(tensor.name)),
    })),
    weights: matchWeights(reference, integer).flatMap((pair) => describeWeight(pair) ?? []),
    ...(options.latency ? { latency: await measureLatency(reference, other, sample!, options.threads) } : {}),
  };

  async function* remember(from: Iterable<Feed> | AsyncIterable<Feed>): AsyncGenerator<Feed> {
    for await (const feed of from) {
      sample ??= feed;
      yield feed;
    }
  }
}

function describeTensor({ pair, other, ...rest }: ComparedTensor, histogram: Histogram): TensorAnalysis {
  const { params, value } = pair.other;
  const codes = params && params.axis === undefined ? codesOf(params, 0) : undefined;
  const [low, high] = codes ? rangeOfCodes(codes, params!) : [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  return {
    name: rest.name,
    ...(rest.node ? { node: rest.node } : {}),
    ...(other.op === undefined ? {} : { runsAs: other.op }),
    type: value.type?.dtype ?? 'float32',
    isOutput: rest.isOutput,
    accumulated: rest.accumulated,
    ...(rest.local ? { local: rest.local } : {}),
    ...(codes ? { ...codes, range: [low, high] as [number, number] } : {}),
    observed: [histogram.min, histogram.max],
    clipped: codes ? clippedShare(histogram, low - codes.scale / 2, high + codes.scale / 2) : 0,
    distribution: distributionOf(histogram),
  };
}

function describeChannels(observer: ChannelObserver | undefined): Pick<TensorAnalysis, 'channels'> {
  const [maxAbs, mean] = [[...(observer?.maxAbs ?? [])], [...(observer?.mean ?? [])]];
  if (!observer || observer.varies || maxAbs.length < 2) return {};
  const alive = maxAbs.filter((most) => most > 0).sort((a, b) => a - b);
  const spread = alive.length === 0 ? 1 : alive[alive.length - 1] / alive[alive.length >> 1];
  return { channels: { axis: observer.axis, maxAbs, mean, spread } };
}

interface Codes {
  scale: number;
  zeroPoint: number;
}

function codesOf({ scale, zeroPoint }: CodeParams, channel: number): Codes {
  const at = (tensor: Tensor): number => Number((tensor.data as Float32Array)[tensor.size === 1 ? 0 : channel]);
  return { scale: at(scale.constant!), zeroPoint: zeroPoint ? at(zeroPoint.constant!) : 0 };
}

function rangeOfCodes({ scale, zeroPoint }: Codes, params: CodeParams): [number, number] {
  const [low, high] = codeRange((params.zeroPoint?.constant?.type ?? 'uint8') as QuantizedDType);
  return [(low - zeroPoint) * scale, (high - zeroPoint) * scale];
}

function describeWeight({ name, reference, other }: TensorPair): WeightAnalysis | undefined {
  const { params, value } = other;
  if (!params) return undefined;
  const { data, size } = reference.value.constant! as Tensor<'float32'>;
  const codes = value.constant!;
  // A factor of the product is part of the codes: integer operators have none.
  const alpha = Math.fround(reference.value.consumers[0]?.attributes.float('alpha', 1) ?? 1);
  const float = reference.value.consumers[0]?.op === 'Gemm' && alpha !== 1 ? data.map((w) => w * alpha) : data;
  const channels = params.scale.constant!.size;
  const inner = params.axis === undefined ? size : codes.dims.slice(params.axis + 1).reduce((a, b) => a * b, 1);
  const each = Array.from({ length: channels }, (_, channel) => codesOf(params, channel));
  const actual = Float32Array.from(codes.data as Int8Array, (code, i) => {
    const { scale, zeroPoint } = each[Math.floor(i / inner) % channels];
    return (code - zeroPoint) * scale;
  });
  const widest = each.reduce((a, b) => (b.scale > a.scale ? b : a));
  const histogram = new Histogram(OBSERVED_BINS);
  histogram.add(float);
  return {
    name,
    type: codes.type,
    shape: codes.dims,
    channels,
    range: rangeOfCodes(widest, { ...params, zeroPoint: params.zeroPoint ?? value }),
    bytes: { float: size * bytesOf('float32'), quantized: codes.size * bytesOf(codes.type) },
    ...errorsOf(float, actual),
    distribution: distributionOf(histogram),
  };
}

/** Share of values in bins that lie wholly outside [low, high]. */
function clippedShare({ counts, half, width, zeros, nonZeros }: Histogram, low: number, high: number): number {
  let outside = 0;
  for (let i = 0; i < counts.length; i++) {
    if ((i + 1 - half) * width < low || (i - half) * width > high) outside += counts[i];
  }
  return zeros + nonZeros === 0 ? 0 : outside / (zeros + nonZeros);
}

function distributionOf({ counts, half, width, min, max, zeros }: Histogram): Distribution {
  const low = min;
  const shown = max > min ? (max - min) / SHOWN_BINS : 1;
  const result = new Array<number>(max > min ? SHOWN_BINS : 1).fill(0);
  const add = (value: number, count: number): void => {
    result[Math.min(result.length - 1, Math.max(0, Math.floor((value - low) / shown)))] += count;
  };
  for (let i = 0; i < counts.length; i++) if (counts[i] > 0) add((i - half + 0.5) * width, counts[i]);
  if (zeros > 0) add(0, zeros);
  return { low, width: shown, counts: result };
}

async function measureLatency(reference: Graph, other: Graph, feed: Feed, threads = 0): Promise<LatencyAnalysis> {
  const sessions = [reference, other].map((graph) => InferenceSession.fromGraph(graph.clone(), { threads }));
  try {
    const [first, second] = await interleave(
      sessions.map((session, i) => ({ name: String(i), run: () => session.run(feed) })),
      BUDGET_MS,
    );
    return { reference: first.median, other: second.median, runs: first.runs };
  } finally {
    for (const session of sessions) session.dispose();
  }
}
