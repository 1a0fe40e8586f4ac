/** A progress bar on stderr: one line that redraws itself on a TTY and that nobody sees elsewhere. */
import type { Terminal } from './terminal';

const BAR_WIDTH = 24;
/** Redrawing more often only costs time. */
const INTERVAL_MS = 50;

export class Progress {
  readonly #terminal: Terminal;
  #drawnAt = 0;
  #isDrawn = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Shows `done` of `total` (a count alone when the total is not known). */
  update(label: string, done: number, total?: number): void {
    if (!this.#terminal.isInteractive) return;
    const now = performance.now();
    if (done !== total && now - this.#drawnAt < INTERVAL_MS) return;
    this.#drawnAt = now;
    this.#isDrawn = true;
    const text = total ? `${bar(done / total)} ${done}/${total}` : String(done);
    this.#terminal.draw(`\r\x1b[2K${`${label} ${text}`.slice(0, this.#terminal.columns - 1)}`);
  }

  /** Removes the line. Idempotent. */
  clear(): void {
    if (this.#isDrawn) this.#terminal.draw('\r\x1b[2K');
    this.#isDrawn = false;
  }
}

function bar(fraction: number): string {
  const filled = Math.round(Math.min(1, fraction) * BAR_WIDTH);
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)} ${String(Math.floor(fraction * 100)).padStart(3)}%`;
}
