/** What a run costs, step by step. */
import { toQ8Error } from '../binding/load';
import type { Node } from '../graph/graph';
import type { NodeObserver, Walk } from './executor';

export interface ProfileRow {
  /** The node's name; '(layout)' for conversions at the edges of native code. */
  name: string;
  op: string;
  /** Kind of the native step, or 'typescript'. */
  step: string;
  microseconds: number;
}

/** Drives a walk with the addon's step timer. `makeWalk` gets the observer of TypeScript nodes. */
export function profileWalk(makeWalk: (observe: NodeObserver) => Walk, threads: number): ProfileRow[] {
  const rows: ProfileRow[] = [];
  const add = (node: Node | null, step: string, microseconds: number): void => {
    rows.push({ name: node?.name ?? '(layout)', op: node?.op ?? '', step, microseconds });
  };
  const walk = makeWalk((node, milliseconds) => add(node, 'typescript', milliseconds * 1e3));
  try {
    for (;;) {
      const { done, value } = walk.next();
      if (done) return rows;
      if (!value) continue;
      const nanoseconds = value.program.profile(value.inputs, value.outputs, threads);
      value.step.steps.forEach(({ op, node }, i) => {
        add(node, op, nanoseconds[i] / 1e3);
      });
    }
  } catch (error) {
    throw toQ8Error(error);
  } finally {
    walk.return([]);
  }
}
