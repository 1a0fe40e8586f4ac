/** Runs the algorithms that the user asked for, in the order in which they build upon each other. */
import type { Graph } from '../../graph/graph';
import type { AlgorithmName, AlgorithmReport } from '../../report/quantize-report';
import type { CalibrationFeed } from '../options';
import type { Formats } from '../formats';
import type { QuantPlan } from '../plan';
import type { Algorithm, AlgorithmContext } from './algorithm';
import { clipWeights } from './clip-weights';
import { correctBias } from './correct-bias';
import { equalize } from './equalize';
import { roundWeights } from './round-weights';
import { smoothQuant } from './smooth-quant';
import { showActivations, type StatisticsOptions } from './statistics';

/** In the order in which they run. */
const ALGORITHMS: Record<AlgorithmName, Algorithm> = {
  equalize,
  smoothQuant,
  clipWeights,
  roundWeights,
  correctBias,
};

export const ALGORITHM_NAMES = Object.keys(ALGORITHMS) as AlgorithmName[];

/** Whether activations hold something else afterwards, so that ranges of the model as it was are of no use. */
export function changesActivations(names: readonly AlgorithmName[]): boolean {
  return names.some((name) => ALGORITHMS[name].changesActivations);
}

export interface AlgorithmOptions extends StatisticsOptions {
  algorithms: readonly AlgorithmName[];
  smoothQuantAlpha: number;
  formats: Formats;
  prescribe: AlgorithmContext['prescribe'];
  /** Plans the graph as it stands; called anew for every algorithm. */
  plan: (graph: Graph) => QuantPlan;
  /** Samples for those that want to see activations. */
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
    const context: AlgorithmContext = { ...options, graph, plan: options.plan(graph) };
    const changed: string[] = [];
    for (const { requests, apply } of algorithm.steps(context)) {
      await showActivations(graph, requests, options.samples, options);
      changed.push(...(await apply()));
    }
    reports.push({ name, nodes: [...new Set(changed)] });
  }
  return reports;
}
