/**
 * Elementwise operators, made from one scalar function each: unary, binary with broadcasting, comparisons and variadic
 * folds. The scalar functions are the meaning; native steps approximate the transcendental ones within their stated bounds.
 */
import type { BinaryStep, UnaryStep } from '../../../binding';
import type { Node, Value } from '../../graph/graph';
import { allocate, type DataOf, type DType } from '../../tensor/dtype';
import { broadcastShapes, broadcastStrides, sizeOf } from '../../tensor/shape';
import { Tensor } from '../../tensor/tensor';
import { defineOp, type LowerContext, type OpDefinition, type QuantTrait, type Slot } from '../define-op';
import { broadcastDims, modelError, typeOf } from './inference';
import { broadcastLayout, broadcastOperand, existingLayout, physicalOrder } from './lowering';
import { forEachRow } from './strided';
import { fromDoubles, isBigInt, isFloat, toDoubles } from './values';

/** Where a binary operator works: plain numbers for all but 64-bit integers. */
export interface Arithmetic {
  float(a: number, b: number): number;
  /** For integer types of up to 32 bits; the result wraps when stored. Default: float. */
  integer?(a: number, b: number): number;
  big?(a: bigint, b: bigint): bigint;
}

export interface UnaryInit {
  type: string;
  domain?: string;
  since: readonly number[];
  /** The native step's kind, when there is one. */
  kind?: UnaryStep['kind'];
  /** The step's alpha and beta, as float32. */
  parameters?(node: Node): { alpha: number; beta: number };
  compute(x: number, alpha: number, beta: number): number;
  big?(x: bigint): bigint;
  quant?: QuantTrait;
}

const NO_PARAMETERS = { alpha: 0, beta: 0 };

/** An operator y[i] = compute(x[i]) of one input. */
export function defineUnary(init: UnaryInit): OpDefinition {
  const parameters = init.parameters ?? (() => NO_PARAMETERS);
  return defineOp({
    type: init.type,
    domain: init.domain,
    since: init.since,
    quant: init.quant,
    inferShape: (context) => [typeOf(context)],
    run([x], { node }) {
      const { alpha, beta } = parameters(node);
      return [mapTensor(x!, (v) => init.compute(v, alpha, beta), init.big)];
    },
    lower(context) {
      if (!init.kind) return false;
      return lowerUnary(context, init.kind, parameters(context.node));
    },
  });
}

/** y[i] = compute(x[i]) in the dtype of x; 64-bit integers go through `big` when given. */
export function mapTensor(x: Tensor, compute: (v: number) => number, big?: (v: bigint) => bigint): Tensor {
  if (big && isBigInt(x.type)) {
    const data = allocate(x.type, x.size) as BigInt64Array;
    const source = x.data as BigInt64Array;
    for (let i = 0; i < data.length; i++) data[i] = big(source[i]);
    return new Tensor<DType>(x.type, data as DataOf['int64'], x.dims);
  }
  const values = toDoubles(x);
  for (let i = 0; i < values.length; i++) values[i] = compute(values[i]);
  return fromDoubles(x.type, values, x.dims);
}

/** Emits a unary float32 step from input 0 to output 0, in the layout at hand. False for other types. */
export function lowerUnary(
  context: LowerContext,
  kind: UnaryStep['kind'],
  { alpha, beta }: { alpha: number; beta: number } = NO_PARAMETERS,
): boolean {
  const value = context.node.requiredInput(0);
  if (context.dtype(value) !== 'float32') return false;
  const layout = existingLayout(context, value);
  const x = context.slot(value, layout);
  const y = context.output(context.node.output, layout);
  context.emit({ op: 'unary', kind, x: x.id, y: y.id, alpha, beta });
  return true;
}

export interface BinaryInit extends Arithmetic {
  type: string;
  domain?: string;
  since: readonly number[];
  kind?: BinaryStep['kind'];
  quant?: QuantTrait;
}

/** An operator of two inputs with numpy broadcasting and a result of their type. */
export function defineBinary(init: BinaryInit): OpDefinition {
  return defineOp({
    type: init.type,
    domain: init.domain,
    since: init.since,
    quant: init.quant,
    inferShape(context) {
      const a = context.input(0);
      const b = context.input(1);
      if (a.dtype !== b.dtype) throw modelError(context.node, `type ${a.dtype}, as input 0,`, 'input 1', b.dtype);
      return [{ dtype: a.dtype, shape: broadcastDims(context, [a.shape, b.shape]) }];
    },
    run: ([a, b], { node }) => [combine(a!, b!, init, node)],
    lower: (context) => init.kind !== undefined && lowerBinary(context, init.kind),
  });
}

/** c = op(a, b) with broadcasting, in the dtype of a. */
export function combine(a: Tensor, b: Tensor, arithmetic: Arithmetic, node: Node): Tensor {
  const shape = broadcastShapes([a.dims, b.dims], `node "${node.name}" (${node.op})`);
  const { type } = a;
  if (isBigInt(type)) {
    const out = allocate(type, sizeOf(shape));
    const { big, float } = arithmetic;
    zip<bigint>(
      shape,
      a,
      b,
      a.data as never,
      b.data as never,
      out as never,
      big ?? ((p, q) => BigInt(float(Number(p), Number(q)))),
    );
    return new Tensor(type, out, shape);
  }
  const out = new Float64Array(sizeOf(shape));
  const compute = isFloat(type) ? arithmetic.float : (arithmetic.integer ?? arithmetic.float);
  zip<number>(shape, a, b, toDoubles(a), toDoubles(b), out, compute);
  return fromDoubles(type, out, shape);
}

interface Cells<T> {
  [index: number]: T;
}

function zip<T>(
  shape: readonly number[],
  a: Tensor,
  b: Tensor,
  left: Cells<T>,
  right: Cells<T>,
  out: Cells<unknown>,
  compute: (a: T, b: T) => unknown,
): void {
  const strides = [broadcastStrides(a.dims, shape), broadcastStrides(b.dims, shape)];
  const length = shape[shape.length - 1] ?? 1;
  const [stepA, stepB] = strides.map((s) => s[s.length - 1] ?? 0);
  forEachRow(shape, strides, (at, [rowA, rowB]) => {
    for (let i = 0; i < length; i++) out[at + i] = compute(left[rowA + i * stepA], right[rowB + i * stepB]);
  });
}

/** Emits a float32 step with broadcasting from inputs 0 and 1 to output 0. False for other types. */
export function lowerBinary(context: LowerContext, kind: BinaryStep['kind']): boolean {
  const { node } = context;
  return foldBinary(context, kind, [node.requiredInput(0), node.requiredInput(1)]);
}

/** Emits op(op(op(v0, v1), v2), ...) with broadcasting into output 0, in float32. */
export function foldBinary(context: LowerContext, kind: BinaryStep['kind'], values: readonly Value[]): boolean {
  if (values.length < 2 || values.some((value) => context.dtype(value) !== 'float32')) return false;
  const output = context.node.output;
  const shape = context.shape(output);
  const layout = broadcastLayout(context, values, shape);
  const physical = physicalOrder(shape, layout);
  const dense = broadcastStrides(physical, physical);
  let left = broadcastOperand(context, values[0], shape, layout);
  for (let i = 1; i < values.length; i++) {
    const right = broadcastOperand(context, values[i], shape, layout);
    const y: Slot = i === values.length - 1 ? context.output(output, layout) : context.temporary('float32', physical);
    context.emit({
      op: 'binary',
      kind,
      a: left.slot.id,
      b: right.slot.id,
      y: y.id,
      shape: physical,
      aStrides: left.strides,
      bStrides: right.strides,
    });
    left = { slot: y, strides: dense };
  }
  return true;
}

/** An operator of one or more inputs, folded from the left, with a result of their type. */
export function defineVariadic(init: BinaryInit & { finish?(sum: Tensor, count: number): Tensor }): OpDefinition {
  return defineOp({
    type: init.type,
    since: init.since,
    quant: init.quant,
    inferShape(context) {
      const inputs = context.node.inputs.map((_, i) => context.input(i));
      if (inputs.length === 0) throw modelError(context.node, 'one or more', 'inputs', 0);
      return [
        {
          dtype: inputs[0].dtype,
          shape: broadcastDims(
            context,
            inputs.map((t) => t.shape),
          ),
        },
      ];
    },
    run(inputs, { node }) {
      const sum = inputs.slice(1).reduce<Tensor>((left, right) => combine(left, right!, init, node), inputs[0]!);
      return [init.finish ? init.finish(sum, inputs.length) : sum];
    },
    lower(context) {
      if (!init.kind || init.finish) return false;
      return foldBinary(context, init.kind, context.node.inputs as Value[]);
    },
  });
}

/** A comparison or logical operator: two inputs of one type, broadcast, to bool. Equal also compares strings. */
export function defineComparison(init: {
  type: string;
  since: readonly number[];
  compare<T extends number | bigint | string>(a: T, b: T): boolean;
}): OpDefinition {
  return defineOp({
    type: init.type,
    since: init.since,
    inferShape(context) {
      return [{ dtype: 'bool', shape: broadcastDims(context, [context.input(0).shape, context.input(1).shape]) }];
    },
    run([a, b], { node }) {
      const shape = broadcastShapes([a!.dims, b!.dims], `node "${node.name}" (${node.op})`);
      const out = new Uint8Array(sizeOf(shape));
      const { type } = a!;
      if (type === 'string') zip<string>(shape, a!, b!, a!.data as string[], b!.data as string[], out, init.compare);
      else if (isBigInt(type)) zip<bigint>(shape, a!, b!, a!.data as never, b!.data as never, out, init.compare);
      else zip<number>(shape, a!, b!, toDoubles(a!), toDoubles(b!), out, init.compare);
      return [new Tensor('bool', out, shape)];
    },
  });
}
