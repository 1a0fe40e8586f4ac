/**
 * The one error class of q8 and its codes. Every failure that a user can meet is a {@link Q8Error}: it says what was
 * expected, what came, where, and the way out. Nothing here prints.
 */

/** Stable, documented error codes. Programs branch on these, never on messages. */
export type Q8ErrorCode =
  | 'ERR_Q8_INVALID_ARGUMENT'
  | 'ERR_Q8_SHAPE_MISMATCH'
  | 'ERR_Q8_UNSUPPORTED_OP'
  | 'ERR_Q8_UNSUPPORTED_DTYPE'
  | 'ERR_Q8_BAD_MODEL'
  | 'ERR_Q8_NO_BINARY'
  | 'ERR_Q8_UNSUPPORTED_CPU'
  | 'ERR_Q8_DISPOSED'
  | 'ERR_Q8_DETACHED_BUFFER'
  | 'ERR_Q8_OUT_OF_MEMORY'
  | 'ERR_Q8_INTERNAL';

export interface Q8ErrorOptions {
  /** One sentence that tells the user what to do about it. */
  hint?: string;
  /** Name of the graph node that the error is about. */
  node?: string;
  cause?: unknown;
}

/** An error with a stable `code`, and where there is one a `hint` (the way out) and the `node` of the model. */
export class Q8Error extends Error {
  readonly code: Q8ErrorCode;
  readonly hint?: string;
  readonly node?: string;

  constructor(code: Q8ErrorCode, message: string, options: Q8ErrorOptions = {}) {
    super(
      options.hint ? `${message} Hint: ${options.hint}` : message,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = 'Q8Error';
    this.code = code;
    if (options.hint !== undefined) this.hint = options.hint;
    if (options.node !== undefined) this.node = options.node;
  }
}

/**
 * Makes the standard sentence "Expected <rule> for <name> but received <value>." as an `ERR_Q8_INVALID_ARGUMENT` (or
 * another code). Returns the error, so that call sites read `throw expected(...)`.
 */
export function expected(
  rule: string,
  name: string,
  received: unknown,
  options: Q8ErrorOptions & { code?: Q8ErrorCode } = {},
): Q8Error {
  const { code = 'ERR_Q8_INVALID_ARGUMENT', ...rest } = options;
  return new Q8Error(code, `Expected ${rule} for ${name} but received ${describe(received)}.`, rest);
}

/** A short, safe rendering of any value for an error message: strings quoted, arrays and objects by kind and size. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}...` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (value === null || typeof value !== 'object') return String(value);
  if (ArrayBuffer.isView(value)) {
    const length = 'length' in value ? value.length : value.byteLength;
    return `a ${value.constructor.name} of ${length}`;
  }
  if (Array.isArray(value)) {
    const text = value.length <= 12 && value.every((v) => v === null || typeof v !== 'object') ? value.join(', ') : '';
    return text ? `[${text}]` : `an array of ${value.length}`;
  }
  return `an object of type ${value.constructor?.name ?? 'null prototype'}`;
}

/** The candidate closest to `word`, if it is close enough to be a typing error (edit distance <= 1/3 of its length). */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

/** Refuses option objects of the wrong kind and unknown keys, with did-you-mean. `where` reads like "qgemm()". */
export function checkOptionKeys(options: unknown, known: ReadonlySet<string>, where: string): void {
  if (options === null || typeof options !== 'object' || Array.isArray(options) || ArrayBuffer.isView(options)) {
    throw expected('an object', `the options of ${where}`, options);
  }
  for (const key of Object.keys(options)) {
    if (known.has(key)) continue;
    const close = didYouMean(key, known);
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `Unknown option ${JSON.stringify(key)} for ${where}.`, {
      hint: close ? `Did you mean ${JSON.stringify(close)}?` : `The options are ${[...known].join(', ')}.`,
    });
  }
}
