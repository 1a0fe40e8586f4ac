/** Lets the event loop have its turn, and a signal be heard, while something long computes on the main thread. */
import { setImmediate } from 'node:timers/promises';

/** How long may be computed at a stretch, in milliseconds. */
const TURN_MS = 10;

export class Turns {
  readonly #signal: AbortSignal | undefined;
  #since = performance.now();

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /** To be awaited between steps that take less than a turn each. @throws the signal's reason. */
  async pass(): Promise<void> {
    if (performance.now() - this.#since < TURN_MS) return;
    await setImmediate();
    this.#signal?.throwIfAborted();
    this.#since = performance.now();
  }
}
