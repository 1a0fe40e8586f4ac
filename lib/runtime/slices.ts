/**
 * Long work on the JavaScript thread, cut into slices: a generator that yields where it may be interrupted. Who wants the
 * result at once finishes it; who shares the event loop gives it a turn now and then.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

export type Slices<T> = Generator<void, T, void>;

/** Work between two turns of the event loop. */
export const TURN_MS = 5;

export function finish<T>(slices: Slices<T>): T {
  for (;;) {
    const { done, value } = slices.next();
    if (done) return value;
  }
}

/** The same slices, yielding only when the event loop should have a turn. */
export function* inTurns<T>(slices: Slices<T>): Slices<T> {
  let turn = performance.now();
  for (;;) {
    const { done, value } = slices.next();
    if (done) return value;
    if (performance.now() - turn < TURN_MS) continue;
    yield;
    turn = performance.now();
  }
}

/** Finishes the work with turns for the event loop, the first one before it starts. */
export async function finishInTurns<T>(slices: Slices<T>): Promise<T> {
  const turns = inTurns(slices);
  for (;;) {
    await nextTurn();
    const { done, value } = turns.next();
    if (done) return value;
  }
}
