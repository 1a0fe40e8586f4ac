/**
 * Runs samples through the float model and watches its tensors. Samples are taken one at a time and only statistics are
 * kept, so memory depends neither on their number nor on whether their shapes agree.
 */
import { describe, didYouMean, expected, Q8Error } from '../errors';
import { isConcrete, type Graph, type Value, type ValueType } from '../graph/graph';
import { inferTypes } from '../graph/infer';
import { lookupOp } from '../ops/registry';
import { removeDeadNodes } from '../passes/remove-dead-nodes';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import type { CalibrationEngine, OpenEngine } from './engines/engine';
import { openOrt, ortIsAvailable } from './engines/ort';
import { openQ8 } from './engines/q8';
import { entropyRange, mseRange, percentileRange } from './observers/clipping';
import { HistogramObserver } from './observers/histogram';
import { MinMaxObserver, MovingAverageObserver } from './observers/minmax';
import { finiteExtremes, type Observer } from './observers/observer';
import type { CalibrationData, CalibrationFeed, ResolvedStaticOptions } from './options';
import type { Range } from './scale';

/** Elements that one run may give out (256 MiB of float32); more tensors are watched in further runs of the sample. */
const ELEMENTS_PER_RUN = 2 ** 26;

export interface Calibration {
  ranges: Map<Value, Range>;
  samples: number;
  engine: 'ort' | 'q8';
  /** Names of tensors in which NaN or infinities were seen. */
  nonFinite: string[];
}

type ObserverOptions = Pick<
  ResolvedStaticOptions,
  'calibrationMethod' | 'percentile' | 'bins' | 'momentum' | 'activationSymmetric'
>;
type CalibrateOptions = ObserverOptions &
  Pick<ResolvedStaticOptions, 'engine' | 'threads' | 'signal' | 'onProgress'> & {
    calibration: CalibrationData;
  };

/**
 * Ranges of the `observed` values of `graph`, over all samples.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT when there are no samples or a sample does not fit the model's inputs.
 */
export async function calibrate(
  graph: Graph,
  observed: readonly Value[],
  options: CalibrateOptions,
): Promise<Calibration> {
  const { signal, onProgress } = options;
  const calibration = feedsOf(options.calibration, graph);
  const engine = options.engine === 'auto' ? ((await ortIsAvailable()) ? 'ort' : 'q8') : options.engine;
  const observers = new Map(observed.map((value) => [value, makeObserver(options)]));
  // Sources that read files know how many there are only once they have begun.
  const total = (): number | undefined => (calibration as { length?: number }).length;
  let runs: ObservedRun[] | undefined;
  let samples = 0;
  try {
    onProgress?.({ phase: 'calibrate', done: 0, total: total() });
    for await (const sample of calibration) {
      signal?.throwIfAborted();
      const feed = checkFeed(graph, sample, samples);
      runs ??= await openRuns(graph, observed, feed, engine === 'ort' ? openOrt : openQ8, options.threads);
      for (const value of graph.inputs) observers.get(value)?.observe(feed[value.name].data as Float32Array);
      for (const { session, values } of runs) {
        const results = await session.run(feed);
        for (const value of values) observers.get(value)!.observe(results[value.name].data as Float32Array);
        signal?.throwIfAborted();
      }
      samples++;
      onProgress?.({ phase: 'calibrate', done: samples, total: total() });
    }
  } finally {
    for (const { session } of runs ?? []) await session.release();
  }
  if (samples === 0) {
    throw expected('at least one feed', 'the option calibration', 'none', {
      hint: 'an iterator can be read only once; give a fresh one for each call.',
    });
  }
  const entries = [...observers];
  return {
    ranges: new Map(entries.map(([value, observer]) => [value, observer.range])),
    samples,
    engine,
    nonFinite: entries.filter(([, observer]) => observer.sawNonFinite).map(([value]) => value.name),
  };
}

/** The feeds themselves. Those of an array are all checked at once, before anything runs. */
export function feedsOf(
  data: CalibrationData,
  graph: Graph,
): Iterable<CalibrationFeed> | AsyncIterable<CalibrationFeed> {
  if (Array.isArray(data)) return data.map((sample, index) => checkFeed(graph, sample, index));
  if (typeof data !== 'function') return data;
  const inputs = graph.inputs.map(({ name, type }) => ({
    name,
    type: type?.dtype ?? 'float32',
    shape: type?.shape ?? [],
  }));
  const feeds: unknown = data(inputs);
  if (feeds !== null && typeof feeds === 'object' && (Symbol.iterator in feeds || Symbol.asyncIterator in feeds)) {
    return feeds as Iterable<CalibrationFeed>;
  }
  throw expected('an iterable of feeds', 'what the function given as calibration returns', feeds);
}

function makeObserver(options: ObserverOptions): Observer {
  const { bins, percentile, activationSymmetric: symmetric } = options;
  switch (options.calibrationMethod) {
    case 'minmax':
      return new MinMaxObserver();
    case 'movingAverage':
      return new MovingAverageObserver(options.momentum);
    case 'percentile':
      return new HistogramObserver(bins, (histogram) => percentileRange(histogram, percentile, symmetric));
    case 'entropy':
      return new HistogramObserver(bins, (histogram) => entropyRange(histogram, symmetric));
    case 'mse':
      return new HistogramObserver(bins, (histogram) => mseRange(histogram, symmetric));
  }
}

/** A session that gives out some of the observed values. */
interface ObservedRun {
  session: CalibrationEngine;
  values: Value[];
}

async function openRuns(
  graph: Graph,
  observed: readonly Value[],
  feed: CalibrationFeed,
  open: OpenEngine,
  threads: number,
): Promise<ObservedRun[]> {
  const inputs = new Set(graph.inputs);
  const runs: ObservedRun[] = [];
  for (const values of batches(
    graph,
    observed.filter((value) => !inputs.has(value)),
    feed,
  )) {
    runs.push({ session: await open(withOutputs(graph, values), { threads }), values });
  }
  return runs;
}

/** Splits values so that those of each batch fit in memory together, by the sizes that this sample will give them. */
function batches(graph: Graph, values: readonly Value[], feed: CalibrationFeed): Value[][] {
  const inputTypes = new Map(
    graph.inputs.map((value): [Value, ValueType] => {
      const { type, dims } = feed[value.name];
      return [value, { dtype: type, shape: dims }];
    }),
  );
  const types = inferTypes(graph, lookupOp, { inputTypes });
  const result: Value[][] = [];
  let elements = Number.POSITIVE_INFINITY;
  for (const value of values) {
    const shape = types.typeOf(value)?.shape;
    const size = isConcrete(shape) ? sizeOf(shape) : 0;
    if (elements + size > ELEMENTS_PER_RUN) {
      result.push([]);
      elements = 0;
    }
    result[result.length - 1].push(value);
    elements += size;
  }
  return result;
}

/** A copy of the graph that computes just these values. */
function withOutputs(graph: Graph, values: readonly Value[]): Graph {
  const copy = graph.clone();
  const wanted = new Set(values.map((value) => value.name));
  copy.outputs.length = 0;
  for (const node of copy.nodes) {
    for (const value of node.outputs) if (value && wanted.has(value.name)) copy.outputs.push(value);
  }
  removeDeadNodes(copy);
  return copy;
}

/** The sample as tensors that fit the model's inputs. */
export function checkFeed(graph: Graph, sample: unknown, index: number): Record<string, Tensor> {
  const where = `calibration feed ${index}`;
  if (sample === null || typeof sample !== 'object' || Array.isArray(sample) || ArrayBuffer.isView(sample)) {
    throw expected('an object with one Tensor per model input', where, sample, {
      hint: `the inputs are ${graph.inputs.map(({ name }) => JSON.stringify(name)).join(', ')}.`,
    });
  }
  const names = graph.inputs.map(({ name }) => name);
  for (const name of Object.keys(sample)) {
    if (names.includes(name)) continue;
    const close = didYouMean(name, names);
    throw expected('the name of a model input', where, name, {
      hint: close
        ? `did you mean ${JSON.stringify(close)}?`
        : `the inputs are ${names.map((n) => JSON.stringify(n)).join(', ')}.`,
    });
  }
  return Object.fromEntries(
    graph.inputs.map((value) => [
      value.name,
      checkTensor(value, (sample as Record<string, unknown>)[value.name], where),
    ]),
  );
}

function checkTensor({ name, type }: Value, given: unknown, where: string): Tensor {
  const what = `input ${JSON.stringify(name)} of ${where}`;
  if (given === undefined) throw expected('a Tensor', what, given);
  const tensor = given instanceof Tensor ? given : fromTensorLike(given, what);
  if (type && tensor.type !== type.dtype) throw expected(`type ${type.dtype}`, what, `type ${tensor.type}`);
  const { shape } = type ?? {};
  if (
    shape &&
    (shape.length !== tensor.dims.length || shape.some((dim, i) => typeof dim === 'number' && dim !== tensor.dims[i]))
  ) {
    throw expected(`shape [${shape.join(', ')}]`, what, `shape [${tensor.dims.join(', ')}]`, {
      code: 'ERR_Q8_SHAPE_MISMATCH',
    });
  }
  if (tensor.type === 'float32' && !finiteExtremes(tensor.data as Float32Array).allFinite) {
    throw expected('finite numbers', what, 'NaN or an infinity');
  }
  return tensor;
}

/** Tensors of onnxruntime-common serve as well. */
function fromTensorLike(given: unknown, what: string): Tensor {
  if (given === null || typeof given !== 'object' || !('type' in given && 'data' in given && 'dims' in given)) {
    throw expected('a Tensor', what, given);
  }
  const { type, data, dims } = given as { type: 'float32'; data: Float32Array; dims: number[] };
  try {
    return new Tensor(type, data, dims);
  } catch (cause) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Expected a Tensor for ${what} but received ${describe(given)}.`, {
      cause,
    });
  }
}
