/** Checks of single options, with the sentences that all options share. */
import { didYouMean, expected } from '../errors';

/** One of the allowed strings. @throws ERR_Q8_INVALID_ARGUMENT with did-you-mean. */
export function choice<O extends object, T extends string>(
  options: O,
  key: keyof O & string,
  allowed: readonly T[],
  fallback: T | undefined,
  where = `the option ${key}`,
): T {
  const value: unknown = options[key] ?? fallback;
  if (allowed.includes(value as T)) return value as T;
  const close = typeof value === 'string' ? didYouMean(value, allowed) : undefined;
  throw expected(`one of ${allowed.map((v) => JSON.stringify(v)).join(', ')}`, where, value, {
    ...(close ? { hint: `did you mean ${JSON.stringify(close)}?` } : {}),
  });
}

/** true or false. */
export function flag<O extends object>(options: O, key: keyof O & string, fallback: boolean): boolean {
  const value: unknown = options[key] ?? fallback;
  if (typeof value !== 'boolean') throw expected('true or false', `the option ${key}`, value);
  return value;
}

/** An array of strings; empty when left out. */
export function names<O extends object>(options: O, key: keyof O & string): readonly string[] {
  const value: unknown = options[key] ?? [];
  if (!Array.isArray(value) || value.some((name) => typeof name !== 'string')) {
    throw expected('an array of strings', `the option ${key}`, value);
  }
  return value;
}
