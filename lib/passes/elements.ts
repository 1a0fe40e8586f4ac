/**
 * What the element at some place of a tensor is, as an expression of that place: follows index arithmetic, moves and
 * conditions backwards, in whatever words an exporter wrote them. So a pass knows that ids are 0, 1, 2... or that a mask hides
 * keys or the future, without a pattern for every exporter.
 */
import type { Dim, Node, Value } from '../graph/graph';
import { integersOf } from '../ops/families/values';
import type { Tensor } from '../tensor/tensor';

export type Expression =
  | { kind: 'number'; value: number }
  /** The place along one axis of the tensor that was asked about. */
  | { kind: 'axis'; axis: number }
  /** A symbolic size. */
  | { kind: 'size'; name: string }
  /** An element of a tensor that is not explained further: computed at run time, or a constant of several elements. */
  | { kind: 'read'; value: Value; at: readonly Expression[] }
  /** The result of an elementwise operator of ai.onnx; Bool is Cast to bool. */
  | { kind: 'apply'; op: string; args: readonly Expression[] };

/** Operators whose elements follow from the elements of their operands at the same place. */
const ELEMENTWISE = new Set([
  ...['Add', 'Sub', 'Mul', 'Div', 'Min', 'Max', 'Neg', 'And', 'Or', 'Not', 'Where'],
  ...['Equal', 'Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual'],
]);
/** A longer way back than exporters write; whatever lies beyond is not explained. */
const MAX_STEPS = 2000;
/** Longer sums are no index. */
const MAX_TERMS = 64;
/** Number of bool in the attribute `to` of Cast. */
const BOOL = 9;

export function number(value: number): Expression {
  return { kind: 'number', value };
}

function apply(op: string, ...args: Expression[]): Expression {
  return { kind: 'apply', op, args };
}

/** The element of `value` at [axis 0, axis 1, ...] of itself. Needs types. `isLeaf` tells tensors to stop at. */
export function elementOf(value: Value, isLeaf: (value: Value) => boolean = () => false): Expression {
  const shape = shapeOf(value) ?? [];
  const at = shape.map((dim, axis): Expression => (dim === 1 ? number(0) : { kind: 'axis', axis }));
  return new Reader(shape, isLeaf).read(value, at);
}

class Reader {
  readonly #extents: readonly Dim[];
  readonly #isLeaf: (value: Value) => boolean;
  #steps = 0;

  constructor(extents: readonly Dim[], isLeaf: (value: Value) => boolean) {
    this.#extents = extents;
    this.#isLeaf = isLeaf;
  }

  read(value: Value, at: readonly Expression[]): Expression {
    if (value.constant) return elementOfConstant(value, value.constant, at);
    const node = value.producer;
    const isExplained =
      node && node.domain === '' && node.outputs[0] === value && !this.#isLeaf(value) && this.#steps++ < MAX_STEPS;
    return (isExplained && shapeOf(value) && this.#explain(node, value, at)) || { kind: 'read', value, at };
  }

  /** The element in terms of the operands, or undefined where the operator is not known or its operands do not tell. */
  #explain(node: Node, value: Value, at: readonly Expression[]): Expression | undefined {
    const { op } = node;
    if (ELEMENTWISE.has(op)) {
      return apply(op, ...node.inputs.map((operand) => this.#broadcast(operand!, at)));
    }
    const first = node.input(0);
    switch (op) {
      case 'Identity':
        return this.read(first!, at);
      case 'Cast': {
        const inner = this.read(first!, at);
        if (node.attributes.int('to') === BOOL) return apply('Bool', inner);
        return first!.type?.dtype === 'float32' && value.type?.dtype !== 'float32' ? undefined : inner;
      }
      case 'Expand':
        return this.#broadcast(first!, at);
      case 'Reshape':
      case 'Flatten':
      case 'Squeeze':
      case 'Unsqueeze': {
        const place = this.#reshaped(shapeOf(first!), shapeOf(value)!, at);
        return place && this.read(first!, place);
      }
      case 'Transpose': {
        const perm = node.attributes.ints('perm') ?? at.map((_, i) => at.length - 1 - i);
        return this.read(
          first!,
          perm.map((_, axis) => at[perm.indexOf(axis)]),
        );
      }
      case 'Slice':
        return this.#slice(node, at);
      case 'Range':
        return apply('Add', this.read(first!, []), apply('Mul', this.read(node.requiredInput(2), []), at[0]));
      case 'Shape': {
        const index = numberOf(at[0]);
        const dim = index === undefined ? undefined : shapeOf(first!)?.[index + node.attributes.int('start', 0)];
        return typeof dim === 'number' ? number(dim) : dim === undefined ? undefined : { kind: 'size', name: dim };
      }
      case 'ConstantOfShape': {
        const filled = node.attributes.tensor('value');
        return number(filled ? Number(filled.data[0]) : 0);
      }
      case 'Gather':
        return this.#gather(node, at);
      case 'GatherND':
        return this.#gatherND(node, at);
      case 'Concat':
        return this.#concat(node, at);
      case 'Trilu':
        return this.#trilu(node, at);
      default:
        return undefined;
    }
  }

  #broadcast(operand: Value, at: readonly Expression[]): Expression {
    const shape = shapeOf(operand);
    if (!shape || shape.length > at.length) return { kind: 'read', value: operand, at };
    const last = at.slice(at.length - shape.length);
    return this.read(
      operand,
      last.map((place, i) => (shape[i] === 1 ? number(0) : place)),
    );
  }

  /** The place in a tensor of shape `from` that becomes place `at` in shape `to`. */
  #reshaped(from: readonly Dim[] | undefined, to: readonly Dim[], at: readonly Expression[]): Expression[] | undefined {
    if (!from) return undefined;
    const long = to.map((dim, i) => ({ dim, place: at[i] })).filter(({ dim }) => dim !== 1);
    const wanted = from.filter((dim) => dim !== 1);
    const places = wanted.join() === long.map(({ dim }) => dim).join() ? long.map(({ place }) => place) : undefined;
    const found = places ?? this.#unflatten(flatten(long), wanted);
    if (!found) return undefined;
    let next = 0;
    return from.map((dim) => (dim === 1 ? number(0) : found[next++]));
  }

  /** The places whose index in row-major order is `index`. */
  #unflatten(index: Expression, shape: readonly Dim[]): Expression[] | undefined {
    let rest = polynomialOf(index);
    if (!rest) return undefined;
    const places: Expression[] = [];
    for (let i = shape.length - 1; i > 0; i--) {
      const split = this.#divide(rest, shape[i]);
      if (!split) return undefined;
      places.unshift(split.remainder);
      rest = split.quotient;
    }
    return shape.length === 0 ? [] : [expressionOf(rest), ...places];
  }

  /** Quotient and remainder of an index by a size, where they can be told without knowing it. */
  #divide(index: Polynomial, size: Dim): { quotient: Polynomial; remainder: Expression } | undefined {
    const quotient: Polynomial = new Map();
    const rest: Polynomial = new Map();
    for (const [term, factor] of index) {
      const factors = term === '' ? [] : term.split(TIMES);
      const at = typeof size === 'string' ? factors.indexOf(`size:${size}`) : -1;
      if (at >= 0) quotient.set(factors.toSpliced(at, 1).join(TIMES), factor);
      else if (typeof size === 'number' && factor % size === 0) quotient.set(term, factor / size);
      else rest.set(term, factor);
    }
    const remainder = expressionOf(rest);
    if (remainder.kind === 'axis' && this.#extents[remainder.axis] === size) return { quotient, remainder };
    const isSmall = remainder.kind === 'number' && remainder.value >= 0 && typeof size === 'number';
    return rest.size === 0 || (isSmall && remainder.value < size) ? { quotient, remainder } : undefined;
  }

  /** Ranges by steps of 1; their starts may be computed. */
  #slice(node: Node, at: readonly Expression[]): Expression | undefined {
    const [data, starts, , axes, steps] = [0, 1, 2, 3, 4].map((i) => node.input(i));
    if (!data || !starts || (axes && !axes.constant)) return undefined;
    if (steps && !(steps.constant && integersOf(steps.constant).every((step) => step === 1))) return undefined;
    const count = shapeOf(starts)?.[0];
    if (typeof count !== 'number') return undefined;
    const place = [...at];
    for (let i = 0; i < count; i++) {
      const axis = axes?.constant ? integersOf(axes.constant)[i] : i;
      const start = this.read(starts, [number(i)]);
      const known = numberOf(start);
      // What counts from the end does so from a size that may not be known.
      if (known === undefined || known < 0) return undefined;
      const index = axis < 0 ? axis + at.length : axis;
      if (known > 0) place[index] = apply('Add', at[index], number(known));
    }
    return this.read(data, place);
  }

  #gather(node: Node, at: readonly Expression[]): Expression | undefined {
    const [data, indices] = [node.requiredInput(0), node.requiredInput(1)];
    const [shape, rank] = [shapeOf(data), shapeOf(indices)?.length];
    if (!shape || rank === undefined) return undefined;
    const axis = (node.attributes.int('axis', 0) + shape.length) % shape.length;
    const index = this.read(indices, at.slice(axis, axis + rank));
    const known = numberOf(index);
    const size = shape[axis];
    if (known !== undefined && known < 0 && typeof size !== 'number') return undefined;
    const picked = known !== undefined && known < 0 ? number(known + (size as number)) : index;
    return this.read(data, [...at.slice(0, axis), picked, ...at.slice(axis + rank)]);
  }

  #gatherND(node: Node, at: readonly Expression[]): Expression | undefined {
    const [data, indices] = [node.requiredInput(0), node.requiredInput(1)];
    const shape = shapeOf(indices);
    const depth = shape?.at(-1);
    if (!shape || typeof depth !== 'number' || node.attributes.int('batch_dims', 0) !== 0) return undefined;
    const outer = at.slice(0, shape.length - 1);
    const picked = Array.from({ length: depth }, (_, i) => this.read(indices, [...outer, number(i)]));
    return this.read(data, [...picked, ...at.slice(shape.length - 1)]);
  }

  #concat(node: Node, at: readonly Expression[]): Expression | undefined {
    const axis = (node.attributes.int('axis', 0) + at.length) % at.length;
    let index = numberOf(at[axis]);
    if (index === undefined) return undefined;
    for (const piece of node.inputs) {
      const size = shapeOf(piece!)?.[axis];
      if (typeof size !== 'number') return undefined;
      if (index < size) return this.read(piece!, at.with(axis, number(index)));
      index -= size;
    }
    return undefined;
  }

  #trilu(node: Node, at: readonly Expression[]): Expression | undefined {
    const diagonal = node.input(1);
    const offset = diagonal ? numberOf(this.read(diagonal, [])) : 0;
    const [row, column] = at.slice(-2);
    if (offset === undefined || !column) return undefined;
    const isLower = node.attributes.int('upper', 1) === 0;
    const distance = apply('Sub', column, row);
    const isKept = apply(isLower ? 'LessOrEqual' : 'GreaterOrEqual', distance, number(offset));
    return apply('Where', isKept, this.read(node.requiredInput(0), at), number(0));
  }
}

function shapeOf(value: Value): readonly Dim[] | undefined {
  return value.constant?.dims ?? value.type?.shape;
}

function elementOfConstant(value: Value, tensor: Tensor, at: readonly Expression[]): Expression {
  if (tensor.type === 'string' || at.length !== tensor.dims.length) return { kind: 'read', value, at };
  const places = at.map(numberOf);
  let index = 0;
  for (const [i, dim] of tensor.dims.entries()) {
    const place = dim === 1 ? 0 : places[i];
    if (place === undefined || place < 0 || place >= dim) return { kind: 'read', value, at };
    index = index * dim + place;
  }
  return number(Number(tensor.data[index]));
}

/** Between the factors of a term: no name has it. */
const TIMES = '\0';

/** Sums of products: coefficients by the sorted names of the factors; '' is the number alone. */
export type Polynomial = Map<string, number>;

/** An expression of places and sizes as a polynomial, or undefined when it is none. Constants that count up are places. */
export function polynomialOf(expression: Expression): Polynomial | undefined {
  switch (expression.kind) {
    case 'number':
      return new Map(expression.value === 0 ? [] : [['', expression.value]]);
    case 'axis':
      return new Map([[`axis:${expression.axis}`, 1]]);
    case 'size':
      return new Map([[`size:${expression.name}`, 1]]);
    case 'read':
      return countsUp(expression.value.constant) ? polynomialOf(expression.at.at(-1)!) : undefined;
    case 'apply': {
      const [a, b] = expression.args.map(polynomialOf);
      if (!a || (expression.args.length > 1 && !b)) return undefined;
      if (expression.op === 'Add') return plus(a, b!, 1);
      if (expression.op === 'Sub') return plus(a, b!, -1);
      if (expression.op === 'Neg') return plus(new Map(), a, -1);
      return expression.op === 'Mul' && a.size * b!.size <= MAX_TERMS ? times(a, b!) : undefined;
    }
  }
}

/** The number that an expression always is. */
export function numberOf(expression: Expression): number | undefined {
  const polynomial = polynomialOf(expression);
  if (!polynomial || [...polynomial.keys()].some((term) => term !== '')) return undefined;
  return polynomial.get('') ?? 0;
}

function plus(a: Polynomial, b: Polynomial, factor: number): Polynomial {
  const sum = new Map(a);
  for (const [term, value] of b) {
    const total = (sum.get(term) ?? 0) + factor * value;
    if (total === 0) sum.delete(term);
    else sum.set(term, total);
  }
  return sum;
}

function times(a: Polynomial, b: Polynomial): Polynomial {
  let product: Polynomial = new Map();
  for (const [left, p] of a) {
    for (const [right, q] of b) {
      const term = [left, right].filter(Boolean).join(TIMES).split(TIMES).sort().join(TIMES);
      product = plus(product, new Map([[term, p * q]]), 1);
    }
  }
  return product;
}

function expressionOf(polynomial: Polynomial): Expression {
  const terms = [...polynomial].map(([term, factor]): Expression => {
    const factors = term === '' ? [] : term.split(TIMES).map(atomOf);
    return [...factors, ...(factor === 1 && factors.length > 0 ? [] : [number(factor)])].reduce((a, b) =>
      apply('Mul', a, b),
    );
  });
  return terms.length === 0 ? number(0) : terms.reduce((a, b) => apply('Add', a, b));
}

function atomOf(name: string): Expression {
  if (name.startsWith('axis:')) return { kind: 'axis', axis: Number(name.slice(5)) };
  return { kind: 'size', name: name.slice(5) };
}

/** The row-major index of a place. */
function flatten(places: readonly { dim: Dim; place: Expression }[]): Expression {
  return places.reduce<Expression>(
    (index, { dim, place }) =>
      apply('Add', apply('Mul', index, typeof dim === 'number' ? number(dim) : { kind: 'size', name: dim }), place),
    number(0),
  );
}

/** Whether the rows of an integer constant are 0, 1, 2... */
function countsUp(tensor: Tensor | undefined): boolean {
  if (!tensor || (tensor.type !== 'int64' && tensor.type !== 'int32') || tensor.dims.length === 0) return false;
  const row = tensor.dims[tensor.dims.length - 1];
  return integersOf(tensor).every((value, i) => value === i % row);
}
