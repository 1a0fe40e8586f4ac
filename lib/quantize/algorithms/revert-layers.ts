/**
 * Puts layers back into float until the quantized model is good enough. Layers are ranked by the error that each adds by
 * itself, worst first; how many have to go is found by doubling and then halving the step, so that even a large model
 * takes some ten attempts.
 */
import type { Graph } from '../../graph/graph';
import { inferShapes } from '../../graph/infer';
import { lookupOp } from '../../ops/registry';
import { fuseQdq } from '../../passes/fuse-qdq';
import { compareGraphs } from '../../report/compare-graphs';
import type { AccuracyReport } from '../../report/quantize-report';
import { InferenceSession } from '../../runtime/session';
import type { CalibrationFeed } from '../options';

/** How good the quantized model has to be. One of `minSqnr` and `evaluate` is given. */
export interface AccuracyOptions {
  /** Least signal to noise ratio of every output beside the float model, in dB. */
  minSqnr?: number;
  /**
   * Measures a model on a task: larger is better. Called with a session of the float model first, then with quantized ones,
   * which are disposed afterwards.
   */
  evaluate?: (session: InferenceSession) => number | Promise<number>;
  /** For `evaluate`: the share of the float model's score that may be lost. Default 0.01. */
  maxDrop?: number;
}

export interface RevertContext {
  /** The float graph. */
  reference: Graph;
  /** A quantized copy in which these nodes stay float. */
  quantizeWithout(excluded: ReadonlySet<string>): Promise<Graph>;
  samples: readonly CalibrationFeed[];
  accuracy: AccuracyOptions;
  threads: number;
  signal?: AbortSignal;
  /** Called after every attempt. */
  onAttempt?: (attempts: number) => void;
}

/** Finds the layers that have to stay in float. `reached` is false when not even reverting all of them helps. */
export async function revertLayers(context: RevertContext): Promise<AccuracyReport> {
  const { accuracy } = context;
  const judge = await makeJudge(context);
  let attempts = 0;
  const attempt = async (layers: readonly string[]): Promise<{ score: number; graph: Graph }> => {
    context.signal?.throwIfAborted();
    const graph = await context.quantizeWithout(new Set(layers));
    fuseQdq(graph);
    inferShapes(graph, lookupOp);
    const score = await judge.score(graph);
    context.onAttempt?.(++attempts);
    return { score, graph };
  };
  const first = await attempt([]);
  const metric = accuracy.evaluate ? 'evaluate' : 'sqnr';
  const report = { metric, wanted: judge.wanted, before: first.score } as const;
  if (first.score >= judge.wanted) return { ...report, after: first.score, reached: true, reverted: [], attempts };

  const ranked = await rank(context, first.graph);
  /** The largest number of layers that was not enough, and the smallest that was. */
  let tooFew = 0;
  let enough: { count: number; score: number } | undefined;
  let last = first.score;
  for (let count = 1; tooFew < ranked.length; count *= 2) {
    const tried = Math.min(count, ranked.length);
    const { score } = await attempt(ranked.slice(0, tried));
    last = score;
    if (score >= judge.wanted) {
      enough = { count: tried, score };
      break;
    }
    tooFew = tried;
  }
  if (!enough) return { ...report, after: last, reached: false, reverted: ranked, attempts };
  while (enough.count - tooFew > 1) {
    const count: number = (enough.count + tooFew) >> 1;
    const { score } = await attempt(ranked.slice(0, count));
    if (score >= judge.wanted) enough = { count, score };
    else tooFew = count;
  }
  return { ...report, after: enough.score, reached: true, reverted: ranked.slice(0, enough.count), attempts };
}

/** Names of the nodes that make codes, those that add most error by themselves first. */
async function rank({ reference, samples, threads, signal }: RevertContext, quantized: Graph): Promise<string[]> {
  const { tensors } = await compareGraphs(reference, quantized, samples, { local: true, threads, signal });
  const layers = tensors.filter(({ local, other, pair }) => local && other.name !== undefined && pair.other.params);
  layers.sort((a, b) => a.local!.sqnr - b.local!.sqnr);
  return [...new Set(layers.map(({ other }) => other.name!))];
}

interface Judge {
  wanted: number;
  score(quantized: Graph): Promise<number>;
}

async function makeJudge({ reference, samples, accuracy, threads, signal }: RevertContext): Promise<Judge> {
  const { evaluate, minSqnr, maxDrop = 0.01 } = accuracy;
  if (!evaluate) {
    return {
      wanted: minSqnr!,
      async score(quantized) {
        const { tensors } = await compareGraphs(reference, quantized, samples, { threads, signal, outputsOnly: true });
        return Math.min(...tensors.map(({ accumulated }) => accumulated.sqnr));
      },
    };
  }
  const score = async (graph: Graph): Promise<number> => {
    const session = InferenceSession.fromGraph(graph.clone(), { threads });
    try {
      return await evaluate(session);
    } finally {
      session.dispose();
    }
  };
  const float = await score(reference);
  return { wanted: float - maxDrop * Math.abs(float), score };
}
