/**
 * The options of quantize(): their types, defaults and every check that needs no model. All of them run before anything
 * is read or calibrated.
 */
import type { BlockAlgorithm } from './blocks';
import { checkOptionKeys, expected } from '../errors';
import type { InputSpec } from '../readers/inputs';
import type { AlgorithmName, CalibrationMethod, SettingReport } from '../report/quantize-report';
import type { QuantizedDType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';
import { choice, flag } from './option-checks';
import { ALGORITHM_NAMES, changesActivations } from './algorithms';
import type { AccuracyOptions } from './algorithms/revert-layers';
import { checkSelectors, type NodeSelector, type SelectionOptions } from './select';
import { type CalibrationRanges, checkRangesMethod, parseRanges, type RangesSource } from './ranges';
import {
  type Representation,
  REPRESENTATION_KEYS,
  type RepresentationOptions,
  resolveRepresentation,
} from './representation';
import { type CpuTargetName, listSettings, type TargetName, withTarget } from './targets';

/** One calibration sample: a tensor for every input of the model. */
export type CalibrationFeed = Readonly<Record<string, Tensor>>;

/**
 * Calibration data: feeds, or a function that is told the inputs of the model and gives feeds, as readSamples() and
 * randomSamples() make it.
 */
export type CalibrationData =
  | Iterable<CalibrationFeed>
  | AsyncIterable<CalibrationFeed>
  | ((inputs: readonly InputSpec[]) => Iterable<CalibrationFeed> | AsyncIterable<CalibrationFeed>);

export type EngineName = 'auto' | 'ort' | 'q8';

const HISTOGRAM_METHODS: readonly CalibrationMethod[] = ['percentile', 'entropy', 'mse', 'distribution'];
const CALIBRATION_METHODS: readonly CalibrationMethod[] = ['minmax', 'movingAverage', ...HISTOGRAM_METHODS];

export interface QuantizeProgress {
  /**
   * 'prepare': the float model is read and simplified; 'calibrate': samples run through it, one step each; 'quantize': ranges
   * become scales, and weights codes; 'revert': models are tried for the option `accuracy`, one step each; 'analyze': samples
   * run through both models. Phases that a call does not have are left out.
   */
  phase: 'prepare' | 'calibrate' | 'quantize' | 'revert' | 'analyze';
  /** Steps of the phase that are done, 0 at its start. */
  done: number;
  /** Steps in all. Undefined for calibration data that has no `length`. */
  total: number | undefined;
}

/** Options of every mode. */
export interface CommonQuantizeOptions {
  /** Folder of the model's side files, for a model given as bytes. */
  baseDirectory?: string;
  /** Aborts the work; quantize() then rejects with the signal's reason. */
  signal?: AbortSignal;
  onProgress?: (progress: QuantizeProgress) => void;
  /**
   * Opens the result before it is returned, by onnxruntime-node where it is installed and by q8; quantize() rejects when one
   * of them refuses it. Default false.
   */
  verify?: boolean;
}

/** What to quantize. */
export interface SelectQuantizeOptions extends CommonQuantizeOptions {
  /** The only nodes to quantize: those that any of the selectors matches. Default: all that q8 can quantize. */
  include?: NodeSelector | readonly NodeSelector[];
  /** Nodes that stay in float, even when `include` names them. */
  exclude?: NodeSelector | readonly NodeSelector[];
  /**
   * Whether nodes in bodies of If and Loop are quantized too. Static ranges inside them come from q8's own engine; bodies
   * that no sample reaches stay in float. Default true; false with `compat`, since ONNX Runtime's tool leaves them alone.
   */
  subgraphs?: boolean;
  /**
   * Whether attention, embeddings, Gelu, and normalizations of sums become operators of com.microsoft before anything is
   * quantized. Default true in mode 'dynamic' without `compat`, where it makes QAttention reachable, else false. Selectors
   * see the model before it.
   */
  fuseTransformers?: boolean;
}

/** Static quantization: activation ranges come from running calibration data through the float model. */
export interface StaticQuantizeOptions extends SelectQuantizeOptions, RepresentationOptions {
  mode: 'static';
  /**
   * What the model is made for. Sets the options of representation that suit it, but for those given; the report lists them
   * (`settings`). Default: none of these, which is right for q8 on every CPU.
   */
  target?: TargetName;
  /**
   * Samples of what the model will see; 100 to 500 are usual. Read once; memory does not grow with their number. May be
   * left out when `ranges` has all ranges.
   */
  calibration?: CalibrationData;
  /**
   * Ranges that are known already, by tensor: `ranges` of an earlier result, the path of a file with them, or a cache of
   * ONNX Runtime's Python tool. Only tensors without a range are calibrated.
   */
  ranges?: RangesSource;
  /** How ranges are derived from observed values. Default 'minmax'. */
  calibrationMethod?: CalibrationMethod;
  /** For 'percentile': the percentage of values within the range; half of the rest is cut at either end. Default 99.99. */
  percentile?: number;
  /** For 'percentile', 'entropy', 'mse' and 'distribution': least number of bins for magnitudes, 256 to 65536. Default 2048. */
  bins?: number;
  /**
   * For 'percentile', 'entropy', 'mse' and 'distribution': samples are read twice, and `bins` bins divide the largest
   * magnitude exactly, instead of that many up to twice as many a power of two. Default false.
   */
  exactBins?: boolean;
  /** For 'movingAverage': least weight of a new sample, above 0 up to 1. Default 0.01. */
  momentum?: number;
  /** What runs the float model. Default 'auto': onnxruntime-node when installed, else q8 itself. */
  engine?: EngineName;
  /** Threads for calibration; 0 (default) = all cores. */
  threads?: number;
  /**
   * What is done to the float model so that int8 costs it less; run in a fixed order, see {@link AlgorithmName}. Default:
   * none. They and the next options want `calibration` to be readable more than once (an array, not a running iterator),
   * and use its first 32 samples.
   */
  algorithms?: AlgorithmName | readonly AlgorithmName[];
  /** For 'smoothQuant': how much of the activations' outliers moves into weights, 0 to 1. Default 0.5. */
  smoothQuantAlpha?: number;
  /** Layers go back to float, worst first, until the model is this good. Default: all stay quantized. */
  accuracy?: AccuracyOptions;
  /** Put the quantized model beside the float one: `analysis` of the report. With latency, both are timed. */
  analyze?: boolean | { latency?: boolean };
}

/**
 * Dynamic quantization: MatMul, Gemm, Conv and tables of Gather have 8-bit weights; activations get uint8 codes anew in
 * every run. Needs no data. Weights of convolutions are uint8 always: onnxruntime runs no others.
 */
export interface DynamicQuantizeOptions extends SelectQuantizeOptions {
  mode: 'dynamic';
  /** The CPU that the model is made for. Sets the next options, but for those given. */
  target?: CpuTargetName;
  /** Type of weights. Default 'int8'. */
  weightType?: QuantizedDType;
  /** One weight scale per output channel. Default true. */
  perChannel?: boolean;
  /** Symmetric weights. Default: true, except for uint8 weights with one scale per tensor. */
  weightSymmetric?: boolean;
  /** 7-bit weights, exact on CPUs whose int8 kernels saturate. Default false. */
  reduceRange?: boolean;
  /** 'onnxruntime': scales, zero points and codes of ONNX Runtime's Python tool (1.30), bit by bit. */
  compat?: 'onnxruntime';
}

/**
 * Weight-only quantization: weights become codes of 2, 4 or 8 bits in blocks with a scale of their own; everything is
 * computed in float. Needs no data.
 */
export interface WeightOnlyQuantizeOptions extends SelectQuantizeOptions {
  mode: 'weightOnly';
  /**
   * 'qoperator' (default): MatMul and Gemm become com.microsoft MatMulNBits, tables of Gather GatherBlockQuantized.
   * 'qdq': a DequantizeLinear in front of MatMul and Gemm, in blocks (opset 21); with 8 bits and no `blockSize`, one scale
   * per output channel, for Conv and ConvTranspose too.
   */
  format?: 'qoperator' | 'qdq';
  /** Bits of a code: 2, 4 (default) or 8. Format 'qdq' has no 2. */
  bits?: 2 | 4 | 8;
  /** Elements that share a scale, a power of two from 16 to 256. Default 32, but for 8 bits in format 'qdq'. */
  blockSize?: number;
  /** No zero points. Default false. */
  symmetric?: boolean;
  /**
   * How coarse a runtime may compute with the activations of MatMulNBits: 0 (default) as it likes, 1 float32, 2 float16,
   * 3 bfloat16, 4 int8 codes, which is the fastest in onnxruntime. q8 computes in float32 always.
   */
  accuracyLevel?: 0 | 1 | 2 | 3 | 4;
  /**
   * How a block is quantized. 'rtn' (default): round to nearest between its extremes. 'kquant': least squares. 'hqq':
   * half-quadratic, with real zero points, for format 'qoperator'. These two are never symmetric. 'gptq': scales as with
   * 'rtn', codes such that products with the inputs seen in `calibration` change least; tables of Gather as with 'rtn'.
   */
  algorithm?: BlockAlgorithm | 'gptq';
  /** For 'gptq', which needs it: samples of what the model will see; the first 128 are used. */
  calibration?: CalibrationData;
  /** For 'gptq': threads that run the model; 0 (default) = all cores. */
  threads?: number;
}

/** A model that holds QuantizeLinear and DequantizeLinear nodes already, as quantization-aware training leaves them. */
export interface QatQuantizeOptions extends CommonQuantizeOptions {
  mode: 'qat';
  /** 'qoperator' (default): integer operators. 'qdq': the pairs stay, weights become codes. */
  format?: 'qoperator' | 'qdq';
}

/** Discriminated by `mode`. */
export type QuantizeOptions =
  | StaticQuantizeOptions
  | DynamicQuantizeOptions
  | WeightOnlyQuantizeOptions
  | QatQuantizeOptions;

/** Makes all options but those named required, as they are once defaults are filled in. */
type Resolved<T, Optional extends keyof T> = T & Required<Omit<T, Optional>>;

type Common = keyof CommonQuantizeOptions;
type Selectors = keyof SelectionOptions;
export type ResolvedStaticOptions = Omit<
  Resolved<
    Omit<StaticQuantizeOptions, 'target' | 'ranges' | keyof RepresentationOptions>,
    Common | Selectors | 'calibration'
  >,
  Selectors | keyof RefineOptions
> &
  RefineOptions &
  Representation &
  SelectionOptions & { ranges?: CalibrationRanges; target?: TargetName } & Settings;

/** What the report tells about the options. */
interface Settings {
  settings: readonly SettingReport[];
}

/** How the result is made better and looked at. */
interface RefineOptions {
  algorithms: readonly AlgorithmName[];
  smoothQuantAlpha: number;
  accuracy: AccuracyOptions | undefined;
  analyze: { latency: boolean } | undefined;
}

export type ResolvedDynamicOptions = Omit<
  Resolved<Omit<DynamicQuantizeOptions, 'target'>, Common | Selectors | 'compat'>,
  Selectors
> &
  SelectionOptions &
  Settings;
export type ResolvedWeightOnlyOptions = Omit<
  Resolved<WeightOnlyQuantizeOptions, Common | Selectors | 'blockSize' | 'calibration'>,
  Selectors
> &
  SelectionOptions;
export type ResolvedQatOptions = Resolved<QatQuantizeOptions, Common>;
export type ResolvedOptions =
  | ResolvedStaticOptions
  | ResolvedDynamicOptions
  | ResolvedWeightOnlyOptions
  | ResolvedQatOptions;

const COMMON_KEYS: Record<keyof CommonQuantizeOptions | 'mode', true> = {
  mode: true,
  signal: true,
  onProgress: true,
  baseDirectory: true,
  verify: true,
};
const SELECT_KEYS: Record<keyof SelectQuantizeOptions | 'mode', true> = {
  ...COMMON_KEYS,
  include: true,
  exclude: true,
  subgraphs: true,
  fuseTransformers: true,
};
const DYNAMIC_KEYS: Record<keyof DynamicQuantizeOptions, true> = {
  ...SELECT_KEYS,
  target: true,
  weightType: true,
  perChannel: true,
  weightSymmetric: true,
  reduceRange: true,
  compat: true,
};
export const STATIC_KEYS: Record<keyof StaticQuantizeOptions, true> = {
  ...SELECT_KEYS,
  ...REPRESENTATION_KEYS,
  target: true,
  calibration: true,
  ranges: true,
  calibrationMethod: true,
  percentile: true,
  bins: true,
  exactBins: true,
  momentum: true,
  engine: true,
  threads: true,
  algorithms: true,
  smoothQuantAlpha: true,
  accuracy: true,
  analyze: true,
};
const WEIGHT_ONLY_KEYS: Record<keyof WeightOnlyQuantizeOptions, true> = {
  ...SELECT_KEYS,
  format: true,
  bits: true,
  blockSize: true,
  symmetric: true,
  accuracyLevel: true,
  algorithm: true,
  calibration: true,
  threads: true,
};
const QAT_KEYS: Record<keyof QatQuantizeOptions, true> = { ...COMMON_KEYS, format: true };
const KEYS_BY_MODE = { static: STATIC_KEYS, dynamic: DYNAMIC_KEYS, weightOnly: WEIGHT_ONLY_KEYS, qat: QAT_KEYS };
const MODES = ['static', 'dynamic', 'weightOnly', 'qat'] as const;
const KNOWN_KEYS = new Set(Object.values(KEYS_BY_MODE).flatMap((keys) => Object.keys(keys)));

/** Checks all options and fills in defaults. @throws ERR_Q8_INVALID_ARGUMENT */
export function resolveOptions(options: QuantizeOptions): ResolvedOptions {
  checkOptionKeys(options, KNOWN_KEYS, 'quantize()');
  const mode = choice(options, 'mode', MODES, undefined);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || key in KEYS_BY_MODE[mode]) continue;
    throw expected(`an option of mode "${mode}"`, 'the options of quantize()', key, {
      hint: `the options of this mode are ${Object.keys(KEYS_BY_MODE[mode]).join(', ')}.`,
    });
  }
  switch (mode) {
    case 'static':
      return resolveStatic(options as StaticQuantizeOptions);
    case 'dynamic':
      return resolveDynamic(options as DynamicQuantizeOptions);
    case 'weightOnly':
      return resolveWeightOnly(options as WeightOnlyQuantizeOptions);
    case 'qat':
      return {
        mode,
        ...resolveCommon(options),
        format: choice(options as QatQuantizeOptions, 'format', FORMATS, 'qoperator'),
      };
  }
}

const FORMATS = ['qoperator', 'qdq'] as const;

function resolveCommon(options: CommonQuantizeOptions): CommonQuantizeOptions {
  const { baseDirectory, signal, onProgress } = options;
  if (baseDirectory !== undefined && typeof baseDirectory !== 'string') {
    throw expected('a string', 'the option baseDirectory', baseDirectory);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw expected('an AbortSignal', 'the option signal', signal);
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw expected('a function', 'the option onProgress', onProgress);
  }
  return { baseDirectory, signal, onProgress, verify: flag(options, 'verify', false) };
}

function resolveSelection(
  options: SelectQuantizeOptions & { compat?: unknown },
  fuses: boolean,
): SelectionOptions & { fuseTransformers: boolean } {
  const { include, exclude } = options;
  return {
    include: checkSelectors('include', include),
    exclude: checkSelectors('exclude', exclude) ?? [],
    subgraphs: flag(options, 'subgraphs', options.compat === undefined),
    fuseTransformers: flag(options, 'fuseTransformers', fuses),
  };
}

function resolveWeightOnly(options: WeightOnlyQuantizeOptions): ResolvedWeightOnlyOptions {
  const format = choice(options, 'format', FORMATS, 'qoperator');
  const algorithm = choice(options, 'algorithm', ['rtn', 'kquant', 'hqq', 'gptq'], 'rtn');
  const symmetric = flag(options, 'symmetric', false);
  const { bits = 4, accuracyLevel = 0 } = options;
  const allowed = format === 'qdq' ? [4, 8] : [2, 4, 8];
  if (!allowed.includes(bits)) {
    throw expected(`one of ${allowed.join(', ')}`, `the option bits with format "${format}"`, bits);
  }
  const blockSize = options.blockSize ?? (format === 'qdq' && bits === 8 ? undefined : 32);
  if (blockSize !== undefined && ![16, 32, 64, 128, 256].includes(blockSize))
    throw expected('16, 32, 64, 128 or 256', 'the option blockSize', blockSize);
  if (![0, 1, 2, 3, 4].includes(accuracyLevel))
    throw expected('an integer from 0 to 4', 'the option accuracyLevel', accuracyLevel);
  if (accuracyLevel > 0 && format === 'qdq') {
    throw expected('"qoperator"', 'the option format', format, {
      hint: 'accuracyLevel is an attribute of MatMulNBits.',
    });
  }
  if ((algorithm === 'kquant' || algorithm === 'hqq') && symmetric) {
    throw expected('false', 'the option symmetric', true, { hint: `algorithm "${algorithm}" chooses zero points.` });
  }
  if (algorithm !== 'rtn' && blockSize === undefined) {
    throw expected('16, 32, 64, 128 or 256', 'the option blockSize', blockSize, {
      hint: `algorithm "${algorithm}" works on blocks; scales per channel are rounded to nearest.`,
    });
  }
  if (algorithm === 'hqq' && format === 'qdq') {
    throw expected('"qoperator"', 'the option format', format, {
      hint: 'zero points of DequantizeLinear are integers.',
    });
  }
  const { calibration } = options;
  if (algorithm === 'gptq') checkCalibration(calibration);
  for (const key of ['calibration', 'threads'] as const) {
    if (algorithm !== 'gptq' && options[key] !== undefined) {
      throw expected('"gptq"', 'the option algorithm', algorithm, {
        hint: `the option ${key} has no effect on others.`,
      });
    }
  }
  return {
    mode: 'weightOnly',
    ...resolveCommon(options),
    ...resolveSelection(options, false),
    format,
    bits,
    blockSize,
    symmetric,
    accuracyLevel,
    algorithm,
    calibration,
    threads: checkThreads(options.threads),
  };
}

function resolveDynamic(given: DynamicQuantizeOptions): ResolvedDynamicOptions {
  const options = withTarget(given);
  const weightType = choice(options, 'weightType', ['int8', 'uint8'], 'int8');
  const perChannel = flag(options, 'perChannel', true);
  const compat = options.compat && choice(options, 'compat', ['onnxruntime'] as const, undefined);
  const isSymmetric = (perChannel && !compat) || weightType === 'int8';
  const weightSymmetric = flag(options, 'weightSymmetric', isSymmetric);
  if (perChannel && !weightSymmetric && !compat) {
    throw expected('true', 'the option weightSymmetric', false, {
      hint: 'onnxruntime refuses weights whose zero point differs between channels; use perChannel: false.',
    });
  }
  const representation = {
    weightType,
    perChannel,
    weightSymmetric,
    reduceRange: flag(options, 'reduceRange', false),
  };
  return {
    mode: 'dynamic',
    ...resolveCommon(options),
    ...resolveSelection(options, !compat),
    ...representation,
    compat,
    settings: listSettings(given, representation),
  };
}

function resolveStatic(given: StaticQuantizeOptions): ResolvedStaticOptions {
  const options = withTarget(given);
  const representation = resolveRepresentation(options);
  const calibrationMethod = choice(options, 'calibrationMethod', CALIBRATION_METHODS, 'minmax');
  const { calibration } = options;
  if (calibration !== undefined || options.ranges === undefined) checkCalibration(calibration);
  const threads = checkThreads(options.threads);
  const method = resolveMethod(options, calibrationMethod);
  const ranges = options.ranges === undefined ? undefined : parseRanges(options.ranges);
  if (ranges) {
    const { percentile, bins, exactBins, momentum } = options;
    const { calibrationMethod: wanted, activationSymmetric: symmetric } = options;
    checkRangesMethod(ranges, { method: wanted, percentile, bins, exactBins, momentum, symmetric });
  }
  return {
    mode: 'static',
    target: options.target,
    ...resolveCommon(options),
    ...resolveSelection(options, false),
    ...representation,
    ...resolveRefinement(options),
    calibration,
    ranges,
    threads,
    calibrationMethod,
    ...method,
    engine: choice(options, 'engine', ['auto', 'ort', 'q8'], 'auto'),
    settings: listSettings(given, representation),
  };
}

function checkCalibration(calibration: unknown): void {
  if (isIterable(calibration)) return;
  throw expected('an iterable of feeds, or a function that gives one,', 'the option calibration', calibration, {
    hint: 'a feed is an object with one Tensor per model input, like [{ input: new Tensor("float32", data, dims) }].',
  });
}

function checkThreads(threads = 0): number {
  if (Number.isSafeInteger(threads) && threads >= 0) return threads;
  throw expected('a non-negative integer', 'the option threads', threads);
}

/** @throws ERR_Q8_INVALID_ARGUMENT */
function resolveRefinement(options: StaticQuantizeOptions): RefineOptions {
  const { calibration, smoothQuantAlpha = 0.5 } = options;
  const given: readonly unknown[] = Array.isArray(options.algorithms)
    ? options.algorithms
    : [options.algorithms ?? []].flat();
  for (const name of given) choice({ algorithms: name }, 'algorithms', ALGORITHM_NAMES, undefined);
  const algorithms = given as AlgorithmName[];
  if (options.smoothQuantAlpha !== undefined && !algorithms.includes('smoothQuant')) {
    throw expected('"smoothQuant"', 'the option algorithms', algorithms, {
      hint: 'the option smoothQuantAlpha has no effect on others.',
    });
  }
  if (!(typeof smoothQuantAlpha === 'number' && smoothQuantAlpha >= 0 && smoothQuantAlpha <= 1))
    throw expected('a number from 0 to 1', 'the option smoothQuantAlpha', smoothQuantAlpha);
  if (options.ranges !== undefined && changesActivations(algorithms)) {
    throw expected('no ranges', 'the option ranges', 'some', {
      hint: 'equalize and smoothQuant change what activations hold; their ranges have to be found anew.',
    });
  }
  const accuracy = options.accuracy === undefined ? undefined : checkAccuracy(options.accuracy);
  const analyze = resolveAnalyze(options.analyze);
  const needsSamples = algorithms.length > 0 || accuracy || analyze;
  if (needsSamples && (calibration === undefined || isSpent(calibration))) {
    throw expected('samples that can be read more than once', 'the option calibration', calibration, {
      hint: 'algorithms, accuracy and analyze run the model on them too: give an array, or an object whose iterator starts anew.',
    });
  }
  return { algorithms, smoothQuantAlpha, accuracy, analyze };
}

function checkAccuracy(given: AccuracyOptions): AccuracyOptions {
  checkOptionKeys(given, new Set(['minSqnr', 'evaluate', 'maxDrop']), 'accuracy');
  const { minSqnr, evaluate, maxDrop } = given;
  if ((minSqnr === undefined) === (evaluate === undefined)) {
    throw expected('one of minSqnr and evaluate', 'the option accuracy', given);
  }
  if (minSqnr !== undefined && !Number.isFinite(minSqnr))
    throw expected('a number', 'the option accuracy.minSqnr', minSqnr);
  if (evaluate !== undefined && typeof evaluate !== 'function')
    throw expected('a function', 'the option accuracy.evaluate', evaluate);
  if (maxDrop !== undefined && (evaluate === undefined || !(maxDrop >= 0 && maxDrop <= 1))) {
    throw expected('a number from 0 to 1, beside evaluate', 'the option accuracy.maxDrop', maxDrop);
  }
  return given;
}

function resolveAnalyze(given: StaticQuantizeOptions['analyze']): RefineOptions['analyze'] {
  if (given === undefined || given === false) return undefined;
  if (given === true) return { latency: false };
  checkOptionKeys(given, new Set(['latency']), 'analyze');
  return { latency: flag(given, 'latency', false) };
}

/** Whether this is an iterator under way, of which a second reader gets nothing. */
function isSpent(value: CalibrationData): boolean {
  if (typeof value === 'function') return false;
  const iterator = Symbol.asyncIterator in value ? value[Symbol.asyncIterator]() : value[Symbol.iterator]();
  return (iterator as unknown) === value;
}

/** The numbers of a calibration method. Refuses those of another one, which would have no effect. */
function resolveMethod(
  options: StaticQuantizeOptions,
  method: CalibrationMethod,
): { percentile: number; bins: number; exactBins: boolean; momentum: number } {
  const users: [key: 'percentile' | 'bins' | 'exactBins' | 'momentum', methods: readonly CalibrationMethod[]][] = [
    ['percentile', ['percentile']],
    ['bins', HISTOGRAM_METHODS],
    ['exactBins', HISTOGRAM_METHODS],
    ['momentum', ['movingAverage']],
  ];
  for (const [key, methods] of users) {
    if (options[key] === undefined || methods.includes(method)) continue;
    throw expected(`${methods.map((m) => JSON.stringify(m)).join(' or ')}`, 'the option calibrationMethod', method, {
      hint: `the option ${key} has no effect on other methods.`,
    });
  }
  const { percentile = 99.99, bins = 2048, momentum = 0.01 } = options;
  if (!(typeof percentile === 'number' && percentile > 50 && percentile <= 100))
    throw expected('a number above 50, up to 100', 'the option percentile', percentile);
  if (!(Number.isSafeInteger(bins) && bins >= 256 && bins <= 65536))
    throw expected('an integer from 256 to 65536', 'the option bins', bins);
  if (!(typeof momentum === 'number' && momentum > 0 && momentum <= 1))
    throw expected('a number above 0, up to 1', 'the option momentum', momentum);
  const exactBins = flag(options, 'exactBins', false);
  if (exactBins && options.calibration !== undefined && isSpent(options.calibration)) {
    throw expected('samples that can be read more than once', 'the option calibration', options.calibration, {
      hint: 'exactBins reads them twice: give an array, or an object whose iterator starts anew.',
    });
  }
  return { percentile, bins, exactBins, momentum };
}

function isIterable(value: unknown): boolean {
  if (typeof value === 'function') return true;
  if (value === null || typeof value !== 'object') return false;
  return Symbol.iterator in value || Symbol.asyncIterator in value;
}
