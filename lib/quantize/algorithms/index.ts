/** Runs the algorithms that the user asked for, in the order in which they build upon each other. */
import type { Graph, Value } from '../../graph/graph';
import type { AlgorithmName, AlgorithmReport } from '../../report/quantize-report';
import type { CalibrationFeed } from '../options';
import type { Formats } from '../formats';
import type { QuantPlan } from '../plan';
import type { Algorithm, AlgorithmContext, ChannelStatistics } from './algorithm';
import { clipWeights } from './clip-weights';
import { correctBias } from './correct-bias';
import { equalize } from './equalize';
import { smoothQuant } from './smooth-quant';
import { gatherStatistics, type StatisticsOptions } from './statistics';

/** In the order in which they run. */
const ALGORITHMS: Record<AlgorithmName, Algorithm> = { equalize, smoothQuant, clipWeights, correctBias };

export const ALGORITHM_NAMES = Object.keys(ALGORITHMS) as AlgorithmName[];

/** Whether activations hold something else afterwards, so that ranges of the model as it was are of no use. */
export function changesActivations(names: readonly AlgorithmName[]): boolean {
  return names.some((name) => ALGORITHMS[name].changesActivations);
}

export interface AlgorithmOptions extends StatisticsOptions {
  algorithms: readonly AlgorithmName[];
  smoothQuantAlpha: number;
  formats: Formats;
  /** Plans the graph as it stands; called anew for every algorithm. */
  plan: (graph: Graph) => QuantPlan;
  /** Samples for those that want statistics. */
  samples: readonly CalibrationFeed[];
}

/** Runs those of the wanted algorithms that come before calibration, or those that come after it. Changes the graph. */
export async function runAlgorithms(
  graph: Graph,
  when: 'before calibration' | 'after calibration',
  options: AlgorithmOptions,
): Promise<AlgorithmReport[]> {
  const reports: AlgorithmReport[] = [];
  for (const name of ALGORITHM_NAMES) {
    const algorithm = ALGORITHMS[name];
    if (!options.algorithms.includes(name)) continue;
    if (algorithm.changesActivations !== (when === 'before calibration')) continue;
    const { formats, smoothQuantAlpha } = options;
    const context: AlgorithmContext = { graph, plan: options.plan(graph), formats, smoothQuantAlpha };
    const requests = algorithm.statistics?.(context) ?? [];
    const statistics =
      requests.length > 0
        ? await gatherStatistics(graph, requests, options.samples, options)
        : new Map<Value, ChannelStatistics>();
    const changed = algorithm.apply(context, statistics);
    reports.push({ name, nodes: [...new Set(changed)] });
  }
  return reports;
}
