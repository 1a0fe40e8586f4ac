/**
 * The options of InferenceSession: q8's own, and those of onnxruntime-node, so that code written for it runs
 * unchanged.
 */
import { checkOptionKeys, expected } from '../errors';
import type { ReadOptions } from '../onnx/read';

export interface SessionOptions extends ReadOptions {
  /**
   * Threads that one run may use; 0 = all (default). A run alone takes them all (least latency); while other runs wait,
   * each keeps to one, without barriers (most throughput). 1 keeps single runs to one thread as well.
   */
  threads?: number;
  /** onnxruntime's name for `threads`. */
  intraOpNumThreads?: number;
  /** Plans for different input shapes that are kept. Default 8. */
  planCacheSize?: number;
  /** Only "cpu" does something. Others are reported once by process.emitWarning and skipped. */
  executionProviders?: readonly (string | { readonly name: string })[];
  /** Accepted and ignored: q8 always optimizes, sequentially, and keeps its memory between runs. */
  graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all';
  interOpNumThreads?: number;
  executionMode?: 'sequential' | 'parallel';
  enableCpuMemArena?: boolean;
  enableMemPattern?: boolean;
  logId?: string;
  logSeverityLevel?: number;
  logVerbosityLevel?: number;
  freeDimensionOverrides?: Readonly<Record<string, number>>;
  preferredOutputLocation?: string | Readonly<Record<string, string>>;
  extra?: Readonly<Record<string, unknown>>;
}

export interface RunOptions {
  /** Aborts the run; its promise rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Accepted and ignored, as q8 writes no log. */
  tag?: string;
  logSeverityLevel?: number;
  logVerbosityLevel?: number;
  extra?: Readonly<Record<string, unknown>>;
}

/** Options in the form that the session works with. */
export interface ResolvedOptions {
  threads: number;
  planCacheSize: number;
  read: ReadOptions;
}

const SESSION_KEYS = new Set([
  'threads',
  'intraOpNumThreads',
  'planCacheSize',
  'externalData',
  'baseDirectory',
  'executionProviders',
  'graphOptimizationLevel',
  'interOpNumThreads',
  'executionMode',
  'enableCpuMemArena',
  'enableMemPattern',
  'logId',
  'logSeverityLevel',
  'logVerbosityLevel',
  'freeDimensionOverrides',
  'preferredOutputLocation',
  'extra',
]);
const RUN_KEYS = new Set(['signal', 'tag', 'logSeverityLevel', 'logVerbosityLevel', 'extra']);
const LEVELS = ['disabled', 'basic', 'extended', 'layout', 'all'];
const DEFAULT_PLAN_CACHE_SIZE = 8;

/** Checks the options of InferenceSession.create(). @throws ERR_Q8_INVALID_ARGUMENT */
export function resolveSessionOptions(options: SessionOptions): ResolvedOptions {
  checkOptionKeys(options, SESSION_KEYS, 'InferenceSession.create()');
  const { graphOptimizationLevel: level, externalData, baseDirectory } = options;
  if (level !== undefined && !LEVELS.includes(level))
    throw expected(`one of ${LEVELS.join(', ')}`, 'graphOptimizationLevel', level);
  warnAboutProviders(options.executionProviders);
  const threads = natural(options.threads ?? options.intraOpNumThreads ?? 0, 'threads', 0);
  return {
    threads,
    planCacheSize: natural(options.planCacheSize ?? DEFAULT_PLAN_CACHE_SIZE, 'planCacheSize', 1),
    read: {
      ...(externalData === undefined ? {} : { externalData }),
      ...(baseDirectory === undefined ? {} : { baseDirectory }),
    },
  };
}

/** Checks the options of run(). @throws ERR_Q8_INVALID_ARGUMENT */
export function checkRunOptions(options: RunOptions): void {
  checkOptionKeys(options, RUN_KEYS, 'InferenceSession.run()');
  const { signal } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw expected('an AbortSignal', 'signal', signal);
}

/** Whether an object passed as the second argument of run() is options rather than fetches. */
export function looksLikeRunOptions(value: object, outputNames: readonly string[]): boolean {
  const keys = Object.keys(value);
  return !Array.isArray(value) && keys.every((key) => RUN_KEYS.has(key) && !outputNames.includes(key));
}

function natural(value: unknown, name: string, least: number): number {
  if (!Number.isSafeInteger(value) || (value as number) < least)
    throw expected(`an integer of at least ${least}`, name, value);
  return value as number;
}

function warnAboutProviders(providers: SessionOptions['executionProviders']): void {
  if (providers === undefined) return;
  if (!Array.isArray(providers)) throw expected('an array', 'executionProviders', providers);
  for (const provider of providers as readonly (string | { name: string })[]) {
    const name = typeof provider === 'string' ? provider : provider?.name;
    if (typeof name !== 'string') throw expected('names', 'executionProviders', provider);
    if (name.toLowerCase() === 'cpu') continue;
    process.emitWarning(`q8 runs on the CPU only; execution provider ${JSON.stringify(name)} is skipped.`, {
      code: 'Q8_EXECUTION_PROVIDER',
    });
  }
}
