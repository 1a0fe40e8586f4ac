/** What every command gets, and the errors that stand for exit codes of their own. */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import type { NodeSelector } from '../quantize';
import type { Terminal } from './ui/terminal';

export interface CommandContext {
  readonly terminal: Terminal;
  /** --json: data as JSON. */
  readonly isJson: boolean;
  /** Aborted by Ctrl-C. */
  readonly interrupt: AbortSignal;
}

/** Options that parse but make no sense together: exit code 2. */
export class UsageError extends Error {}

/** The work is done, but its result is worse than the user allows: exit code 3. */
export class GateError extends Error {}

/** Parsers for commander's options; what they throw becomes a usage error. */

export function parsePositiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value <= 0) throw new InvalidArgumentError('It must be a positive integer.');
  return value;
}

export function parseCount(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('It must be a non-negative integer.');
  return value;
}

export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

/** "0.485,0.456,0.406" -> numbers. */
export function parseNumbers(text: string): number[] {
  return text.split(',').map(parseNumber);
}

/** "320x640" -> height and width. */
export function parseSize(text: string): [number, number] {
  const [, height, width] = /^(\d+)x(\d+)$/.exec(text) ?? [];
  if (height === undefined) throw new InvalidArgumentError('It must look like 224x224.');
  return [parsePositiveInteger(height), parsePositiveInteger(width)];
}

/** "a,b" -> names, added to those of earlier uses of the option. */
export function collectNames(text: string, earlier: readonly string[] = []): string[] {
  return [...earlier, ...text.split(',').map((name) => name.trim())];
}

/**
 * "a,b*,type:Conv" -> selectors of nodes, added to those of earlier uses of the option. What starts with "regex:" is one
 * selector, commas and all.
 */
export function collectSelectors(text: string, earlier: readonly NodeSelector[] = []): NodeSelector[] {
  const parts = text.startsWith('regex:') ? [text] : collectNames(text);
  return [...earlier, ...parts.map(parseSelector)];
}

function parseSelector(text: string): NodeSelector {
  const [, kind, rest] = /^(regex|type|between):(.*)$/s.exec(text) ?? [];
  switch (kind) {
    case 'regex':
      try {
        return new RegExp(rest);
      } catch {
        throw new InvalidArgumentError(`${JSON.stringify(rest)} is not a regular expression.`);
      }
    case 'type':
      return { opType: rest };
    case 'between': {
      const [, from, to] = /^(.*?)\.\.(.*)$/s.exec(rest) ?? [];
      if (!from && !to) throw new InvalidArgumentError('It must look like between:first_tensor..last_tensor.');
      return { ...(from ? { from } : {}), ...(to ? { to } : {}) };
    }
    default:
      return text;
  }
}

/** "MatMul=0" -> an axis by operator type, added to those of earlier uses of the option. */
export function collectAxes(text: string, earlier: Readonly<Record<string, number>> = {}): Record<string, number> {
  const [, op, axis] = /^(\w+)=(-?\d+)$/.exec(text) ?? [];
  if (op === undefined) throw new InvalidArgumentError('It must look like MatMul=0.');
  return { ...earlier, [op]: Number(axis) };
}

/** A path -> the JSON in the file. */
export function parseJsonFile(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new InvalidArgumentError(`It must be a file of JSON: ${(error as Error).message}.`);
  }
}

/** "x=1x3x224x224" -> a shape by name, added to those of earlier uses of the option. */
export function collectShapes(
  text: string,
  earlier: ReadonlyMap<string, readonly number[]> = new Map(),
): Map<string, number[]> {
  const [, name, dims] = /^(.+)=(\d+(?:x\d+)*)$/.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError('It must look like input=1x3x224x224.');
  return new Map([...earlier, [name, dims.split('x').map(Number)]] as [string, number[]][]);
}

/** "x=file.npy" -> a file by name, added to those of earlier uses of the option. */
export function collectFiles(text: string, earlier: ReadonlyMap<string, string> = new Map()): Map<string, string> {
  const at = text.indexOf('=');
  if (at <= 0 || at === text.length - 1) throw new InvalidArgumentError('It must look like input=file.npy.');
  return new Map([...earlier, [text.slice(0, at), text.slice(at + 1)]]);
}
