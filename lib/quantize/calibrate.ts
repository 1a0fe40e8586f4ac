/**
 * Runs samples through the float model and watches its tensors. Samples are taken one at a time and only statistics are
 * kept, so memory depends neither on their number nor on whether their shapes agree.
 */
import { describe, didYouMean, expected, Q8Error } from '../errors';
import { graphsOf } from '../graph/bodies';
import { type Graph, subgraphsOf, type Value } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { openOrt, ortIsAvailable } from './engines/ort';
import { openQ8 } from './engines/q8';
import { distributionRange, entropyRange, mseRange, percentileRange } from './observers/clipping';
import { HistogramObserver } from './observers/histogram';
import { MinMaxObserver, MovingAverageObserver } from './observers/minmax';
import { type ExtremesObserver, finiteExtremes, type Observer } from './observers/observer';
import type { CalibrationData, CalibrationFeed, ResolvedStaticOptions } from './options';
import type { Range } from './scale';
import { Turns } from './turns';
import { watchBodies, watchExtremes, watchTensors, type Watch } from './watch';

export interface Calibration {
  ranges: Map<Value, Range>;
  samples: number;
  engine: 'ort' | 'q8';
  /** Names of tensors in which NaN or infinities were seen. */
  nonFinite: string[];
}

type ObserverOptions = Pick<
  ResolvedStaticOptions,
  'calibrationMethod' | 'percentile' | 'bins' | 'exactBins' | 'momentum' | 'activationSymmetric'
>;
type CalibrateOptions = ObserverOptions &
  Pick<ResolvedStaticOptions, 'engine' | 'threads' | 'signal' | 'onProgress'> & {
    calibration: CalibrationData;
  };

/**
 * Ranges of the `observed` values of `graph` and its bodies, over all samples. Values of bodies that never ran have none.
 * Reads the samples twice when bins of histograms are to be exact: for the extremes, then for what lies between them.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT when there are no samples or a sample does not fit the model's inputs.
 */
export async function calibrate(
  graph: Graph,
  observed: readonly Value[],
  options: CalibrateOptions,
): Promise<Calibration> {
  const passes = options.exactBins ? 2 : 1;
  let bounds: Map<Value, number> | undefined;
  if (options.exactBins) {
    const extremes = new Map(observed.map((value) => [value, new MinMaxObserver()]));
    await observeAll(graph, extremes, options, { pass: 0, passes });
    bounds = new Map([...extremes].map(([value, { range }]) => [value, Math.max(-range.min, range.max)]));
  }
  const observers = new Map(observed.map((value) => [value, makeObserver(options, bounds?.get(value))]));
  const { samples, engine } = await observeAll(graph, observers, options, { pass: passes - 1, passes });
  const ranges = new Map<Value, Range>();
  const turns = new Turns(options.signal);
  for (const [value, observer] of observers) {
    if (observer.hasSeen) ranges.set(value, observer.range);
    await turns.pass();
  }
  const nonFinite = [...observers].filter(([, observer]) => observer.sawNonFinite).map(([value]) => value.name);
  return { ranges, samples, engine, nonFinite };
}

/** Shows all samples to the observers. */
async function observeAll(
  graph: Graph,
  observers: Map<Value, Observer>,
  options: CalibrateOptions,
  { pass, passes }: { pass: number; passes: number },
): Promise<Pick<Calibration, 'samples' | 'engine'>> {
  const { signal, onProgress } = options;
  const calibration = feedsOf(options.calibration, graph);
  const engine = options.engine === 'auto' ? ((await ortIsAvailable()) ? 'ort' : 'q8') : options.engine;
  const watches: Watch[] = [];
  let samples = 0;
  const tell = (): void => {
    // Sources that read files know how many there are only once they have begun.
    const { length } = calibration as { length?: number };
    const before = pass === 0 ? 0 : (length ?? 0) * pass;
    onProgress?.({
      phase: 'calibrate',
      done: before + samples,
      total: length === undefined ? length : passes * length,
    });
  };
  const inside = valuesInBodies(graph);
  const watched = new Map([...observers].filter(([value]) => !inside.has(value)));
  const watchedInside = new Map([...observers].filter(([value]) => inside.has(value)));
  const openWatches = async (feed: Record<string, Tensor>): Promise<void> => {
    const where = { open: engine === 'ort' ? openOrt : openQ8, threads: options.threads };
    watches.push(
      engine === 'ort' && watched.size > 0 && isOfExtremes(watched)
        ? await watchExtremes(graph, watched, where)
        : await watchTensors(graph, watched, feed, where),
    );
    if (watchedInside.size > 0) watches.push(await watchBodies(graph, watchedInside, options.threads));
  };
  try {
    if (pass === 0) tell();
    for await (const sample of calibration) {
      signal?.throwIfAborted();
      const feed = checkFeed(graph, sample, samples);
      if (watches.length === 0) await openWatches(feed);
      for (const watch of watches) await watch.observe(feed, signal);
      samples++;
      tell();
    }
  } finally {
    for (const watch of watches) await watch.release();
  }
  if (samples === 0) throw noSamples();
  return { samples, engine };
}

function valuesInBodies(graph: Graph): Set<Value> {
  const inside = new Set<Value>();
  for (const body of [...graph.nodes].flatMap(subgraphsOf).flatMap((body) => [...graphsOf(body)])) {
    for (const value of body.inputs) inside.add(value);
    for (const { outputs } of body.nodes) for (const value of outputs) if (value) inside.add(value);
  }
  return inside;
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

/** The error for calibration data without any. */
export function noSamples(): Q8Error {
  return expected('at least one feed', 'the option calibration', 'none', {
    hint: 'an iterator can be read only once; give a fresh one for each call.',
  });
}

/** The first samples, kept: algorithms and judges go over them more than once. */
export async function takeSamples(
  calibration: CalibrationData,
  graph: Graph,
  count: number,
): Promise<CalibrationFeed[]> {
  const taken: CalibrationFeed[] = [];
  for await (const feed of feedsOf(calibration, graph)) {
    taken.push(checkFeed(graph, feed, taken.length));
    if (taken.length === count) break;
  }
  return taken;
}

/** @param bound the largest magnitude of the tensor, when it is known. */
function makeObserver(options: ObserverOptions, bound: number | undefined): Observer {
  const { bins, percentile, activationSymmetric: symmetric } = options;
  switch (options.calibrationMethod) {
    case 'minmax':
      return new MinMaxObserver();
    case 'movingAverage':
      return new MovingAverageObserver(options.momentum);
    case 'percentile':
      return new HistogramObserver(bins, (histogram) => percentileRange(histogram, percentile, symmetric), bound);
    case 'entropy':
      return new HistogramObserver(bins, (histogram) => entropyRange(histogram, symmetric), bound);
    case 'mse':
      return new HistogramObserver(bins, (histogram) => mseRange(histogram, symmetric), bound);
    case 'distribution':
      return new HistogramObserver(bins, (histogram) => distributionRange(histogram, symmetric), bound);
  }
}

/** Whether extremes are all that these observers want. */
function isOfExtremes(observers: Map<Value, Observer>): observers is Map<Value, ExtremesObserver> {
  return [...observers.values()].every((observer) => 'observeExtremes' in observer);
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
