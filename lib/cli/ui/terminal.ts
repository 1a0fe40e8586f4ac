/**
 * Where the command line writes: data to stdout, talk to stderr. Colours follow the stream, NO_COLOR, FORCE_COLOR and
 * --no-color; whatever moves (progress) shows on a TTY only.
 */
import { createColors } from 'picocolors';

export interface TerminalOptions {
  color?: boolean;
  quiet?: boolean;
}

export type Colors = ReturnType<typeof createColors>;

export class Terminal {
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;
  readonly #isQuiet: boolean;
  /** Colours for data and for talk; they return the text unchanged where there is no colour. */
  readonly out: Colors;
  readonly err: Colors;

  constructor(stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream, options: TerminalOptions = {}) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#isQuiet = options.quiet ?? false;
    this.out = createColors(hasColor(stdout, options.color));
    this.err = createColors(hasColor(stderr, options.color));
  }

  /** Whether stderr can show what moves. */
  get isInteractive(): boolean {
    return this.#stderr.isTTY === true && !this.#isQuiet && process.env.TERM !== 'dumb';
  }

  /** Width of stderr in characters. */
  get columns(): number {
    return this.#stderr.columns || 80;
  }

  /** Data: a line on stdout. */
  print(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  /** Data for programs: a value as JSON on stdout. */
  printJson(value: unknown): void {
    this.print(JSON.stringify(value, null, 2));
  }

  /** Talk: a line on stderr, unless --quiet. */
  note(text: string): void {
    if (!this.#isQuiet) this.#stderr.write(`${text}\n`);
  }

  /** A failure: a line on stderr, --quiet or not. */
  complain(text: string): void {
    this.#stderr.write(`${text}\n`);
  }

  /** Writes to stderr as it is, for what moves. */
  draw(text: string): void {
    this.#stderr.write(text);
  }
}

function hasColor(stream: NodeJS.WriteStream, wanted = true): boolean {
  if (!wanted || process.env.NO_COLOR) return false;
  if (process.env.FORCE_COLOR) return process.env.FORCE_COLOR !== '0';
  return stream.isTTY === true && process.env.TERM !== 'dumb';
}
