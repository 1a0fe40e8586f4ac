/**
 * Config files: JSON with the long options of a command as keys, in camelCase, besides `model`. Flags on the command line win.
 * Values are what a program would give to the API: numbers, booleans, lists and objects; paths are relative to the file.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Command, Option } from 'commander';
import { didYouMean } from '../errors';
import { UsageError } from './context';

/** Options that hold paths. */
const PATHS = new Set(['output', 'calibration', 'ranges', 'saveRanges', 'report', 'overrides']);

/** Sets the options of `command` that the file gives and the command line does not. @throws UsageError */
export function applyConfig(command: Command, path: string): void {
  const content = parse(path);
  const known = new Map(command.options.map((option) => [option.attributeName(), option]));
  known.delete('config');
  for (const [key, value] of Object.entries(content)) {
    const option = known.get(key);
    if (!option) {
      const close = didYouMean(key, known.keys());
      const hint = close ? `Did you mean ${JSON.stringify(close)}?` : `The keys are ${[...known.keys()].join(', ')}.`;
      throw new UsageError(`${path}: there is no option ${JSON.stringify(key)}. ${hint}`);
    }
    if (command.getOptionValueSource(key) === 'cli') continue;
    command.setOptionValueWithSource(key, valueFor(option, key, value, path), 'config');
  }
}

function parse(path: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`Cannot read the config file ${JSON.stringify(path)}: ${(error as Error).message}`);
  }
  if (content === null || typeof content !== 'object' || Array.isArray(content)) {
    throw new UsageError(`${path}: expected an object of options.`);
  }
  return content as Record<string, unknown>;
}

/** Text goes through the option's own parser; everything else is what that would have made of it. */
function valueFor(option: Option, key: string, value: unknown, path: string): unknown {
  const wrong = (rule: string) =>
    new UsageError(`${path}: expected ${rule} for ${JSON.stringify(key)} but found ${JSON.stringify(value)}.`);
  if (option.isBoolean() || option.negate) {
    if (typeof value !== 'boolean') throw wrong('true or false');
    return value;
  }
  if (option.argChoices && !option.argChoices.includes(value as string))
    throw wrong(`one of ${option.argChoices.join(', ')}`);
  if (key === 'shape') return new Map(Object.entries(value as Record<string, number[]>));
  if (typeof value !== 'string' && !(typeof value === 'number' && option.parseArg)) return value;
  const text = PATHS.has(key) ? resolve(dirname(path), String(value)) : String(value);
  if (!option.parseArg) return text;
  try {
    return option.parseArg(text, undefined as never);
  } catch (error) {
    throw new UsageError(`${path}: ${JSON.stringify(key)}: ${(error as Error).message}`);
  }
}
