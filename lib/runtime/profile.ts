/** What a run costs, step by step. */
import type { ProgramStep } from '../../binding';
import { toQ8Error } from '../binding/load';
import type { Node } from '../graph/graph';
import type { NodeObserver, Walk } from './executor';

/** One step of a run, in the order of execution. */
export interface ProfileRow {
  /** The node's name; several joined by " + " where one step computes them; '(layout)' for conversions at the edges. */
  name: string;
  /** Operators of the nodes, joined likewise. */
  op: string;
  /** Kind of the native step, or 'typescript'. */
  step: string;
  /**
   * How the step computes: the driver that was chosen, for example 'pointwise' or 'depthwise' ('' where there is one),
   * and what it does to its results: 'pointwise + lut + add'.
   */
  kernel: string;
  /** Since the beginning of the run. */
  startMicroseconds: number;
  microseconds: number;
  /** Multiply-adds of matrix products and convolutions; 0 for other steps. */
  macs: number;
  /** Multiply-adds on 8-bit operands, which percentOfPeak counts. */
  isInteger: boolean;
}

/** Drives a walk with the addon's step timer. `makeWalk` gets the observer of TypeScript nodes. */
export function profileWalk(makeWalk: (observe: NodeObserver) => Walk, threads: number): ProfileRow[] {
  const rows: ProfileRow[] = [];
  let now = 0;
  const add = (nodes: readonly Node[], row: Omit<ProfileRow, 'name' | 'op' | 'startMicroseconds'>): void => {
    rows.push({
      name: nodes.length > 0 ? nodes.map(({ name }) => name).join(' + ') : '(layout)',
      op: nodes.map(({ op }) => op).join(' + '),
      startMicroseconds: now,
      ...row,
    });
    now += row.microseconds;
  };
  const walk = makeWalk((node) => {
    const started = performance.now();
    const before = now;
    return () => {
      // What its bodies ran has rows of its own.
      const microseconds = Math.max(0, (performance.now() - started) * 1e3 - (now - before));
      add([node], { step: 'typescript', kernel: '', microseconds, macs: 0, isInteger: false });
    };
  });
  try {
    for (;;) {
      const { done, value } = walk.next();
      if (done) return rows;
      if (!value) continue;
      const nanoseconds = value.program.profile(value.inputs, value.outputs, threads);
      const kernels = value.program.kernels();
      value.step.steps.forEach(({ op, macs, finish, nodes }, i) => {
        add(nodes, {
          step: op,
          kernel: [kernels[i], ...finish].filter((part) => part !== '').join(' + '),
          microseconds: nanoseconds[i] / 1e3,
          macs,
          isInteger: op.startsWith('q'),
        });
      });
    }
  } catch (error) {
    throw toQ8Error(error);
  } finally {
    walk.return([]);
  }
}

/** Multiply-adds of a step; taps in the padding count, as in the literature. */
export function macsOf(step: ProgramStep): number {
  switch (step.op) {
    case 'qconv':
    case 'conv':
      return (
        step.batch *
        step.outHeight *
        step.outWidth *
        step.outChannels *
        step.kernelHeight *
        step.kernelWidth *
        (step.channels / step.group)
      );
    case 'qgemm':
    case 'gemm':
      return step.m * step.weights.n * step.weights.k;
    case 'qmatmul':
    case 'matmul':
      return (step.m * step.n * step.k * step.batchOffsets.length) / 3;
    default:
      return 0;
  }
}
