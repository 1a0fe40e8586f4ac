/**
 * What is done to the scores of attention before Softmax, however it is written: which keys a query sees, if that is all that
 * it does. Masks are read element by element; what they depend on is tried in all combinations.
 */
import type { Dim, Node, Value } from '../graph/graph';
import { elementOf, type Expression, numberOf, polynomialOf } from './elements';
import { isOp, unscale } from './matching';

export interface Mask {
  /** Whether queries only see keys up to their own place. */
  causal: boolean;
  /** 1 (or true) where a key is seen: [batch, keys], or [batch, queries, keys], once `ones`, axes of size 1, are gone. */
  seen?: { value: Value; ones: readonly number[] };
  /** What is added to the scores of other keys. */
  filter: number;
}

/** Scores as a matrix product gives them, and what happens to them: factor * scores, then the mask. */
export interface Masked {
  product: Value;
  factor: number;
  /** Undefined when every query sees every key. */
  mask?: Mask;
  /** From the product (without it) to the input of Softmax. */
  nodes: Node[];
}

/** Added to scores, a number below this hides a key. */
const HIDING = -1000;
/** Runtimes add the filter to scores, so it must leave room. */
const LOWEST = -1e30;
/** More masks on top of each other than this are not looked for. */
const MAX_MASKS = 6;
/** More conditions than this are not a mask. */
const MAX_CONDITIONS = 6;

/**
 * The product behind the input of Softmax, or undefined when more than a mask is between them. Masks of integers are taken
 * to be 0 or 1. `batch` and `length` are the sizes of the input of attention.
 */
export function unmask(scores: Value, batch: Dim, length: Dim): Masked | undefined {
  for (const path of pathsTo(scores)) {
    const masked = maskedBy(scores, path, batch, length);
    if (masked) return masked;
  }
  return undefined;
}

interface Path {
  product: Value;
  /** Where masks end: between here and the product there are only factors. */
  scaled: Value;
  factor: number;
  nodes: Node[];
}

/** Ways from the input of Softmax down to a product of two computed matrices. */
function pathsTo(value: Value, depth = 0): Path[] {
  const node = value.producer;
  const steps = (inputs: readonly number[]): Path[] =>
    inputs
      .flatMap((i) => pathsTo(node!.requiredInput(i), depth + 1))
      .map((path) => ({ ...path, nodes: [...path.nodes, node!] }));
  if (depth > MAX_MASKS) return [];
  if (isOp(node, 'Add')) return steps([0, 1]);
  if (isOp(node, 'Where')) return steps([1, 2]);
  const { value: product, factor, nodes } = unscale(value);
  const { producer } = product;
  const isProduct = isOp(producer, 'MatMul') && producer.inputs.every((input) => !input?.constant);
  return isProduct ? [{ product, scaled: value, factor, nodes }] : [];
}

function maskedBy(scores: Value, path: Path, batch: Dim, length: Dim): Masked | undefined {
  const { product, factor, nodes, scaled } = path;
  if (scaled === scores) return { product, factor, nodes };
  const isBool = ({ type }: Value): boolean => type?.dtype === 'bool';
  // A mask that does not come from keys and places alone may still be one of pairs.
  for (const isLeaf of [() => false, isBool]) {
    const expression = elementOf(scores, (value) => value === scaled || isLeaf(value));
    const mask = new Trial(scaled).maskOf(expression, batch, length);
    if (mask) return { product, factor, nodes, ...(mask !== 'none' && { mask }) };
  }
  return undefined;
}

/** A condition that a mask depends on. */
type Condition = { kind: 'causal' } | { kind: 'seen'; value: Value; at: readonly Expression[] };

/** Evaluates an expression for every combination of its conditions. */
class Trial {
  readonly #scores: Value;
  readonly #conditions = new Map<string, Condition>();
  #truth: ReadonlySet<string> = new Set();

  /** The elements of `scores` count as 0. */
  constructor(scores: Value) {
    this.#scores = scores;
  }

  /** The mask when the expression is 0 where all of some conditions hold and hides elsewhere. */
  maskOf(expression: Expression, batch: Dim, length: Dim): Mask | 'none' | undefined {
    if (this.#evaluate(expression) === undefined || this.#conditions.size > MAX_CONDITIONS) return undefined;
    const names = [...this.#conditions.keys()];
    const results: (number | undefined)[] = [];
    for (let bits = 0; bits < 2 ** names.length; bits++) {
      this.#truth = new Set(names.filter((_, i) => bits & (1 << i)));
      results.push(this.#evaluate(expression));
    }
    const isSeen = results.map((result) => result === 0);
    if (results.some((result) => result === undefined || (result !== 0 && !(result < HIDING)))) return undefined;
    const needed = names.filter((_, i) => isSeen.some((seen, bits) => seen !== isSeen[bits ^ (1 << i)]));
    const all = isSeen.every((seen, bits) => seen === needed.every((name) => bits & (1 << names.indexOf(name))));
    if (!all) return undefined;
    const conditions = needed.map((name) => this.#conditions.get(name)!);
    const causal = conditions.some(({ kind }) => kind === 'causal');
    const reads = conditions.filter((condition) => condition.kind === 'seen');
    if (!causal && reads.length === 0) return 'none';
    const seen = reads.length === 1 ? seenBy(reads[0].value, reads[0].at, batch, length) : undefined;
    if (reads.length > 0 && !seen) return undefined;
    const hidden = results.filter((result) => result !== undefined && result < 0) as number[];
    return { causal, ...(seen && { seen }), filter: Math.max(LOWEST, ...hidden) };
  }

  /** The number for the present truth of the conditions; undefined where it depends on anything else. */
  #evaluate(expression: Expression): number | undefined {
    switch (expression.kind) {
      case 'number':
        return expression.value;
      case 'read':
        return this.#readOf(expression.value, expression.at);
      case 'apply':
        return this.#apply(expression.op, expression.args);
      default:
        return undefined;
    }
  }

  #readOf(value: Value, at: readonly Expression[]): number | undefined {
    if (value === this.#scores) return 0;
    if (value.constant) return this.#table(value, at);
    const dtype = value.type?.dtype;
    if (dtype !== 'bool' && dtype !== 'int64' && dtype !== 'int32') return undefined;
    const places = at.map((place) => nameOf(place));
    if (places.includes(undefined)) return undefined;
    return this.#test(`${value.name}[${places.join()}]`, { kind: 'seen', value, at }) ? 1 : 0;
  }

  /** A constant [..., queries, keys] with one number up to the diagonal and another beyond, or one number. */
  #table(value: Value, at: readonly Expression[]): number | undefined {
    const { data, dims, type } = value.constant!;
    if (type !== 'string' && (data as Float32Array).every((element) => element === data[0])) return Number(data[0]);
    const outer = at.slice(0, -2).map(numberOf);
    const [rows, columns] = dims.slice(-2);
    if (type === 'string' || outer.some((place) => place !== 0) || dims.slice(0, -2).some((dim) => dim !== 1))
      return undefined;
    if (nameOf(at.at(-2)) !== 'axis:2' || nameOf(at.at(-1)) !== 'axis:3') return undefined;
    const [low, high] = [Number(data[0]), Number(data[1])];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        if (Number(data[row * columns + column]) !== (column <= row ? low : high)) return undefined;
      }
    }
    return this.#test('causal', { kind: 'causal' }) ? low : high;
  }

  #apply(op: string, args: readonly Expression[]): number | undefined {
    const compared = this.#compare(op, args);
    if (compared !== undefined) return compared ? 1 : 0;
    if (!isCertain(op, args)) return undefined;
    const [a, b, c] = args.map((argument) => this.#evaluate(argument));
    if (a === undefined || (args.length > 1 && b === undefined) || (args.length > 2 && c === undefined))
      return undefined;
    const compute = OPERATORS[op];
    const result = compute && Math.fround(Number(compute(a, b ?? 0, c ?? 0)));
    return Number.isNaN(result) ? undefined : result;
  }

  /** Compares places: what always holds, or whether the key is beyond the query. */
  #compare(op: string, args: readonly Expression[]): boolean | undefined {
    const [left, right] = args;
    const lower: Record<string, [Expression, Expression, number] | undefined> = {
      LessOrEqual: [left, right, 0],
      Less: [left, right, 1],
      GreaterOrEqual: [right, left, 0],
      Greater: [right, left, 1],
    };
    const order = lower[op];
    if (!order) return undefined;
    const difference = polynomialOf({ kind: 'apply', op: 'Sub', args: order.slice(0, 2) as Expression[] });
    if (!difference) return undefined;
    // Holds when the sum of these terms is at most `limit`.
    const limit = -(difference.get('') ?? 0) - order[2];
    difference.delete('');
    const terms = [...difference].map(([term, factor]) => `${factor} ${term}`).sort();
    if (terms.length === 0) return limit >= 0;
    if (terms.join() === '-1 axis:2,1 axis:3' && limit === 0) return this.#test('causal', { kind: 'causal' });
    if (terms.join() === '-1 axis:3,1 axis:2' && limit === -1) return !this.#test('causal', { kind: 'causal' });
    // Places are never negative.
    return [...difference.values()].every((factor) => factor < 0) && limit >= 0 ? true : undefined;
  }

  #test(name: string, condition: Condition): boolean {
    this.#conditions.set(name, condition);
    return this.#truth.has(name);
  }
}

const OPERATORS: Record<string, ((a: number, b: number, c: number) => number | boolean) | undefined> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Min: (a, b) => Math.min(a, b),
  Max: (a, b) => Math.max(a, b),
  Neg: (a) => -a,
  And: (a, b) => a !== 0 && b !== 0,
  Or: (a, b) => a !== 0 || b !== 0,
  Not: (a) => a === 0,
  Bool: (a) => a !== 0,
  Equal: (a, b) => a === b,
  Less: (a, b) => a < b,
  LessOrEqual: (a, b) => a <= b,
  Greater: (a, b) => a > b,
  GreaterOrEqual: (a, b) => a >= b,
  Where: (a, b, c) => (a === 0 ? c : b),
};

const COMPARISONS = new Set(['Equal', 'Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual']);
const BOOLEAN = new Set([...COMPARISONS, 'And', 'Or', 'Not', 'Bool']);

/**
 * Whether 0 and 1 say enough of integers that are read: ids may be anything, and are compared with others than 0, or moved
 * by them, where models find padding on their own.
 */
function isCertain(op: string, args: readonly Expression[]): boolean {
  if (!args.some(readsIntegers)) return true;
  const numbers = args.filter((argument) => !readsIntegers(argument)).map(numberOf);
  if (COMPARISONS.has(op)) return numbers.length === 1 && numbers[0] === 0;
  const isMoved =
    ['Add', 'Sub', 'Min', 'Max'].includes(op) && numbers.some((value) => value !== undefined && Math.abs(value) > 1);
  return !isMoved;
}

function readsIntegers(expression: Expression): boolean {
  if (expression.kind === 'read')
    return !expression.value.constant && expression.value.type?.dtype?.startsWith('int') === true;
  return expression.kind === 'apply' && !BOOLEAN.has(expression.op) && expression.args.some(readsIntegers);
}

/** "axis:2", "0"...: a place that is an axis of the scores or a number. */
function nameOf(place: Expression | undefined): string | undefined {
  const polynomial = place && polynomialOf(place);
  if (!polynomial || polynomial.size > 1) return undefined;
  const [[term, factor] = ['', 0]] = polynomial;
  if (term === '') return String(factor);
  return factor === 1 ? term : undefined;
}

/** Whether a tensor has one element for each key, or each pair of query and key, of each item of the batch. */
function seenBy(value: Value, at: readonly Expression[], batch: Dim, length: Dim): Mask['seen'] {
  const shape = value.type?.shape ?? [];
  const axes = at.map((place, i) => ({ name: nameOf(place), size: shape[i], i }));
  // A batch of one has no axis of its own in an expression.
  const isLoneBatch = batch === 1 && axes[0]?.size === 1;
  const kept = axes.filter(({ size, i }) => size !== 1 || (i === 0 && isLoneBatch));
  const names = kept.map(({ name, i }) => (i === 0 && isLoneBatch ? 'axis:0' : name)).join();
  const sizes = kept.map(({ size }) => size).join();
  // Sizes that only look different are not worth a guess.
  const isWhole =
    (names === 'axis:0,axis:3' && sizes === [batch, length].join()) ||
    (names === 'axis:0,axis:2,axis:3' && sizes === [batch, length, length].join());
  return isWhole ? { value, ones: axes.filter((axis) => !kept.includes(axis)).map(({ i }) => i) } : undefined;
}
