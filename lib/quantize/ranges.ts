/**
 * Calibrated ranges as data: what a calibration found can be saved, and given to later calls instead of samples. Reads what
 * q8 writes, and the calibration caches of ONNX Runtime's Python quantizer.
 */
import { readFileSync } from 'node:fs';
import { didYouMean, expected, Q8Error } from '../errors';
import type { CalibrationMethod } from '../report/quantize-report';
import type { Range } from './scale';

/** The ranges of a model's activations. Plain data: JSON.stringify writes a file that the option `ranges` reads. */
export interface CalibrationRanges {
  /** SHA-256 of the float model that they were found for. Absent when not known: then any model takes them. */
  model?: string;
  /** How they were found; with its numbers, where it has some. */
  method?: CalibrationMethod;
  percentile?: number;
  bins?: number;
  exactBins?: boolean;
  momentum?: number;
  /** Whether the method was to give symmetric ranges. */
  symmetric?: boolean;
  samples?: number;
  engine?: 'ort' | 'q8';
  /** Smallest and largest value to cover, by the name of the tensor in the float model. */
  tensors: Record<string, readonly [min: number, max: number]>;
}

/** What the option `ranges` takes: ranges with what is known of them, bare ones by tensor, or the path of a JSON file. */
export type RangesSource = CalibrationRanges | Readonly<Record<string, readonly [min: number, max: number]>> | string;

const SETTINGS = ['percentile', 'bins', 'exactBins', 'momentum', 'symmetric'] as const;
const PYTHON_METHODS: Record<string, CalibrationMethod> = {
  MinMax: 'minmax',
  Entropy: 'entropy',
  Percentile: 'percentile',
};

/**
 * The ranges that an option or a JSON file holds: what {@link CalibrationRanges} describes, an object of [min, max] by
 * tensor, or a cache of the Python tool (`calibration_cache_path`, or the `calibration.json` of a TensorRT table).
 *
 * @throws ERR_Q8_INVALID_ARGUMENT when it is none of these, or a range is not one.
 */
export function parseRanges(source: RangesSource): CalibrationRanges {
  const where = typeof source === 'string' ? source : 'the option ranges';
  const content: unknown = typeof source === 'string' ? readJson(source) : source;
  if (!isRecord(content)) throw expected('an object of ranges', where, content);
  if (content.CLS === 'TensorsData') return fromPython(content, where);
  if (isRecord(content.tensors)) {
    const { tensors, ...rest } = content as unknown as CalibrationRanges;
    return { ...rest, tensors: tensorRanges(tensors, where) };
  }
  return { tensors: tensorRanges(content, where) };
}

/** @throws ERR_Q8_INVALID_ARGUMENT when the ranges were found for another model than the one with this digest. */
export function checkRangesOfModel({ model }: CalibrationRanges, digest: string): void {
  if (model === undefined || model === digest) return;
  throw expected(`ranges of this model (${abbreviated(digest)})`, 'the option ranges', abbreviated(String(model)), {
    hint: 'they were calibrated for another model. Calibrate anew, or give their "tensors" alone to use them all the same.',
  });
}

/** What the caller wants of a calibration; undefined where anything will do. */
export type WantedCalibration = Pick<CalibrationRanges, 'method' | (typeof SETTINGS)[number]>;

/** @throws ERR_Q8_INVALID_ARGUMENT when the ranges were found in another way than the caller asks for. */
export function checkRangesMethod(ranges: CalibrationRanges, wanted: WantedCalibration): void {
  for (const key of ['method', ...SETTINGS] as const) {
    if (wanted[key] === undefined || ranges[key] === undefined || wanted[key] === ranges[key]) continue;
    throw expected(`ranges found with ${key} ${JSON.stringify(wanted[key])}`, 'the option ranges', ranges[key], {
      hint: 'leave the option out to take the ranges as they are, or calibrate anew.',
    });
  }
}

/** How ranges are found with these options: what {@link CalibrationRanges} says of it. */
export function settingsOf(options: {
  calibrationMethod: CalibrationMethod;
  percentile: number;
  bins: number;
  exactBins: boolean;
  momentum: number;
  activationSymmetric: boolean;
}): WantedCalibration {
  const { calibrationMethod: method, percentile, bins, momentum, activationSymmetric: symmetric } = options;
  const exact = options.exactBins ? { exactBins: true } : {};
  switch (method) {
    case 'minmax':
      return { method };
    case 'movingAverage':
      return { method, momentum };
    case 'percentile':
      return { method, percentile, bins, ...exact, symmetric };
    case 'entropy':
    case 'mse':
    case 'distribution':
      return { method, bins, ...exact, symmetric };
  }
}

/**
 * The ranges of the named tensors, as far as they are known.
 * @param isComplete whether none may be missing.
 * @throws ERR_Q8_INVALID_ARGUMENT when too many are missing.
 */
export function rangesFor(
  { tensors }: CalibrationRanges,
  names: readonly string[],
  isComplete: boolean,
): Map<string, Range> {
  const found = new Map<string, Range>();
  const missing: string[] = [];
  for (const name of names) {
    if (!Object.hasOwn(tensors, name)) {
      missing.push(name);
      continue;
    }
    const [min, max] = tensors[name];
    found.set(name, { min, max });
  }
  if (missing.length === 0 || (found.size > 0 && !isComplete)) return found;
  const close = didYouMean(missing[0], Object.keys(tensors));
  const shown = missing.slice(0, 5).map((name) => JSON.stringify(name));
  throw new Q8Error(
    'ERR_Q8_INVALID_ARGUMENT',
    `The option ranges lacks ${missing.length} of ${names.length} tensors: ${shown.join(', ')}${missing.length > 5 ? ', ...' : ''}.`,
    {
      hint: close
        ? `did you mean ${JSON.stringify(missing[0])} by ${JSON.stringify(close)}?`
        : 'give calibration data too: tensors without a range are then calibrated.',
    },
  );
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `The ranges ${JSON.stringify(path)} cannot be read.`, {
      hint: 'the option ranges takes the path of a JSON file, or its content.',
      cause,
    });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw expected('JSON', path, (cause as Error).message, { cause });
  }
}

function tensorRanges(given: Record<string, unknown>, where: string): CalibrationRanges['tensors'] {
  const entries = Object.entries(given).map(([name, range]): [string, readonly [number, number]] => {
    const pair = isRecord(range) && range.CLS === 'TensorData' ? [scalar(range.lowest), scalar(range.highest)] : range;
    const [min, max] = Array.isArray(pair) && pair.length === 2 ? (pair as number[]) : [Number.NaN, Number.NaN];
    if (!(Number.isFinite(min) && Number.isFinite(max) && min <= max)) {
      throw expected('[min, max], two finite numbers', `the range of ${JSON.stringify(name)} in ${where}`, pair);
    }
    return [name, [Math.fround(min), Math.fround(max)]];
  });
  return Object.fromEntries(entries);
}

/** The cache that `calibration_cache_path` names. It does not say which model it belongs to. */
function fromPython(content: Record<string, unknown>, where: string): CalibrationRanges {
  const { data, calibration_method: method } = content;
  if (!isRecord(data)) throw expected('an object "data"', where, data);
  const name = isRecord(method) ? String(method.value).replace('CalibrationMethod.', '') : '';
  return { method: PYTHON_METHODS[name], tensors: tensorRanges(data, where) };
}

/** A NumPy array of one element, as the Python tool writes it. */
function scalar(value: unknown): unknown {
  let at = isRecord(value) && value.CLS === 'numpy.array' ? value.data : value;
  while (Array.isArray(at) && at.length === 1) [at] = at;
  return at;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function abbreviated(digest: string): string {
  return `${digest.slice(0, 12)}...`;
}
