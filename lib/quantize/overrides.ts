/**
 * Exceptions by tensor: another type, range, scale or granularity than the options give, and changes of type between a
 * tensor and some of its readers (mixed precision).
 */
import { checkOptionKeys, didYouMean, expected, type Q8Error } from '../errors';
import { graphsOf } from '../graph/bodies';
import type { Graph, Value } from '../graph/graph';
import { type CodeDType, codeRange, isCodeDType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';
import type { QuantPlan } from './plan';

/** How codes of a tensor are made. What is left out is as the options say. */
export interface CodesOverride {
  type?: CodeDType;
  symmetric?: boolean;
  /** Smallest and largest value to cover, instead of what was observed; one pair per index of `axis`, or one for all. */
  range?: readonly [min: number, max: number] | readonly (readonly [min: number, max: number])[];
  /** The scale itself, with `zeroPoint`; one number per index of `axis`, or one for all. */
  scale?: number | readonly number[];
  zeroPoint?: number | readonly number[];
}

/** Another type for readers of an activation: codes are dequantized and quantized anew before them. */
export interface ConvertOverride extends CodesOverride {
  type: CodeDType;
  /** Names of the nodes that read the converted codes. Default: all that read the tensor. */
  receivers?: readonly string[];
}

export interface TensorOverride extends CodesOverride {
  /** For constants: one scale per index of this axis; null: one scale. */
  axis?: number | null;
  /** For constants: one bit less. */
  reduceRange?: boolean;
  /** For activations. */
  convert?: ConvertOverride;
}

/** By name of the tensor in the float model. */
export type TensorOverrides = Readonly<Record<string, TensorOverride>>;

const CODES_KEYS = ['type', 'symmetric', 'range', 'scale', 'zeroPoint'];
const KEYS = new Set([...CODES_KEYS, 'axis', 'reduceRange', 'convert']);
const CONVERT_KEYS = new Set([...CODES_KEYS, 'receivers']);

/** Checks what can be checked without a model. @throws ERR_Q8_INVALID_ARGUMENT that names the tensor. */
export function checkOverrides(overrides: TensorOverrides | undefined, activationType: CodeDType): TensorOverrides {
  if (overrides === undefined) return {};
  if (overrides === null || typeof overrides !== 'object' || Array.isArray(overrides)) {
    throw expected('an object by tensor name', 'the option overrides', overrides);
  }
  for (const [name, override] of Object.entries(overrides)) {
    const where = whereOf(name);
    checkOptionKeys(override, KEYS, where);
    checkCodes(override, where, override.type ?? activationType);
    const { axis, convert, reduceRange } = override;
    if (axis !== undefined && axis !== null && !Number.isSafeInteger(axis))
      throw expected('an integer or null', `axis of ${where}`, axis);
    if (reduceRange !== undefined && typeof reduceRange !== 'boolean')
      throw expected('true or false', `reduceRange of ${where}`, reduceRange);
    if (reduceRange !== undefined && override.scale !== undefined) throw excludes(where, 'reduceRange');
    if (convert === undefined) continue;
    const converted = `convert of ${where}`;
    checkOptionKeys(convert, CONVERT_KEYS, converted);
    if (convert.type === undefined) throw expected('a type', `type of ${converted}`, undefined);
    checkCodes(convert, converted, convert.type);
    if (convert.type === (override.type ?? activationType)) {
      throw expected('another type than that of the tensor', `type of ${converted}`, convert.type);
    }
    const { receivers } = convert;
    if (receivers === undefined) continue;
    if (!Array.isArray(receivers) || receivers.length === 0 || receivers.some((r) => typeof r !== 'string')) {
      throw expected('names of nodes', `receivers of ${converted}`, receivers);
    }
  }
  return overrides;
}

function whereOf(name: string): string {
  return `the override of tensor ${JSON.stringify(name)}`;
}

function excludes(where: string, key: string): Q8Error {
  return expected('no scale', where, 'both', { hint: `a prescribed scale leaves nothing for ${key} to decide.` });
}

function checkCodes(codes: CodesOverride, where: string, type: CodeDType): void {
  const { symmetric, range, scale, zeroPoint } = codes;
  if (!isCodeDType(type)) {
    const close =
      typeof type === 'string' ? didYouMean(type, ['int8', 'uint8', 'int16', 'uint16', 'int4', 'uint4']) : '';
    throw expected('an integer type of 4, 8 or 16 bits', `type of ${where}`, type, {
      ...(close ? { hint: `did you mean ${JSON.stringify(close)}?` } : {}),
    });
  }
  if (symmetric !== undefined && typeof symmetric !== 'boolean')
    throw expected('true or false', `symmetric of ${where}`, symmetric);
  if ((scale === undefined) !== (zeroPoint === undefined)) {
    const [given, missing] = scale === undefined ? ['zeroPoint', 'scale'] : ['scale', 'zeroPoint'];
    throw expected(`${missing} beside ${given}`, where, undefined);
  }
  if (scale !== undefined) {
    if (symmetric !== undefined) throw excludes(where, 'symmetric');
    if (range !== undefined) throw excludes(where, 'range');
    for (const s of listOf(scale)) {
      if (!(typeof s === 'number' && Math.fround(s) > 0 && Number.isFinite(Math.fround(s))))
        throw expected('positive finite numbers', `scale of ${where}`, s);
    }
    const [low, high] = codeRange(type);
    for (const z of listOf(zeroPoint!)) {
      if (!(Number.isSafeInteger(z) && z >= low && z <= high))
        throw expected(`integers from ${low} to ${high}`, `zeroPoint of ${where}`, z);
    }
    if (listOf(scale).length !== listOf(zeroPoint!).length)
      throw expected('as many zero points as scales', where, listOf(zeroPoint!).length);
  }
  if (range === undefined) return;
  for (const pair of pairsOf(range)) {
    const isPair = Array.isArray(pair) && pair.length === 2 && pair.every((v) => Number.isFinite(Math.fround(v)));
    if (!isPair || pair[0] > pair[1]) throw expected('[min, max], two finite numbers', `range of ${where}`, pair);
  }
}

export function listOf(value: number | readonly number[]): readonly number[] {
  return typeof value === 'number' ? [value] : value;
}

export function pairsOf(range: NonNullable<CodesOverride['range']>): readonly (readonly [number, number])[] {
  if (!Array.isArray(range)) return [range as never];
  return Array.isArray(range[0]) ? (range as [number, number][]) : [range as unknown as [number, number]];
}

/** Whether any tensor gets one of the types for which `test` holds. */
export function overridesType(overrides: TensorOverrides, test: (type: CodeDType) => boolean): boolean {
  return Object.values(overrides).some(
    ({ type, convert }) => (type !== undefined && test(type)) || (convert !== undefined && test(convert.type)),
  );
}

/**
 * Checks overrides against the model and what is planned for it, before calibration.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT for tensors that do not exist or are not quantized, and for what a tensor cannot have.
 */
export function checkOverriddenTensors(graph: Graph, plans: readonly QuantPlan[], overrides: TensorOverrides): void {
  const entries = Object.entries(overrides);
  if (entries.length === 0) return;
  const values = valuesByName(graph);
  const constants = plannedConstants(plans);
  // By name: bodies are planned with stand-ins for what is around them.
  const heads = new Map(
    plans.flatMap(({ activations }) => [...activations].map(([value, head]) => [value.name, head])),
  );
  for (const [name, override] of entries) {
    const value = values.get(name);
    if (!value) {
      const close = didYouMean(name, values.keys());
      throw expected('the name of a tensor', 'the option overrides', name, {
        hint: close
          ? `did you mean ${JSON.stringify(close)}?`
          : 'the model has none of that name once it is prepared; folded constants and normalizations are gone.',
      });
    }
    if (value.constant) checkConstant(value, override, constants);
    else checkActivation(value, override, heads);
  }
}

function valuesByName(graph: Graph): Map<string, Value> {
  const values = new Map<string, Value>();
  for (const { inputs, nodes } of graphsOf(graph)) {
    for (const value of inputs) values.set(value.name, value);
    for (const node of nodes) {
      for (const value of [...node.inputs, ...node.outputs]) if (value) values.set(value.name, value);
    }
  }
  return values;
}

function plannedConstants(plans: readonly QuantPlan[]): Set<Tensor> {
  const constants = new Set<Tensor>();
  for (const [node, { inputs }] of plans.flatMap(({ nodes }) => [...nodes])) {
    for (const [index, { kind }] of inputs) {
      const { constant } = node.requiredInput(index);
      if (kind !== 'activation' && constant) constants.add(constant);
    }
  }
  return constants;
}

function checkConstant(value: Value, override: TensorOverride, planned: ReadonlySet<Tensor>): void {
  const where = whereOf(value.name);
  if (!planned.has(value.constant!)) throw notQuantized(value);
  if (override.convert)
    throw expected('no convert', where, 'one', { hint: 'a constant has one type for all readers.' });
  const { dims } = value.constant!;
  const { axis } = override;
  const given = axis ?? undefined;
  if (given !== undefined && (given < -dims.length || given >= dims.length)) {
    throw expected(`an axis of shape [${dims.join(', ')}]`, `axis of ${where}`, given);
  }
  const channels = given === undefined ? 1 : dims[given < 0 ? given + dims.length : given];
  const counts = [
    ['scale', override.scale === undefined ? 1 : listOf(override.scale).length],
    ['range', override.range === undefined ? 1 : pairsOf(override.range).length],
  ] as const;
  for (const [key, count] of counts) {
    if (count !== 1 && count !== channels) {
      const hint = given === undefined ? 'several of them go with an axis.' : undefined;
      throw expected(channels === 1 ? 'one' : `1 or ${channels}`, `${key} of ${where}`, count, { hint });
    }
  }
}

function checkActivation(value: Value, override: TensorOverride, heads: ReadonlyMap<string, Value>): void {
  const where = whereOf(value.name);
  const head = heads.get(value.name);
  if (!head) throw notQuantized(value);
  for (const key of ['axis', 'reduceRange'] as const) {
    if (override[key] !== undefined)
      throw expected(`no ${key}`, where, override[key], { hint: 'it is for constants; activations have one scale.' });
  }
  for (const codes of [override, override.convert]) {
    const several =
      (Array.isArray(codes?.scale) && codes.scale.length !== 1) || (codes?.range && pairsOf(codes.range).length !== 1);
    if (several) throw expected('one scale', where, 'several', { hint: 'activations have one scale.' });
  }
  if (head.name !== value.name && CODES_KEYS.some((key) => override[key as keyof TensorOverride] !== undefined)) {
    throw expected('a tensor with codes of its own', 'the option overrides', value.name, {
      hint: `it has the codes of ${JSON.stringify(head.name)}; override that one.`,
    });
  }
  const readers = new Set(value.consumers.map(({ name }) => name));
  for (const receiver of override.convert?.receivers ?? []) {
    if (readers.has(receiver)) continue;
    const close = didYouMean(receiver, readers);
    throw expected('the name of a node that reads the tensor', `receivers of convert of ${where}`, receiver, {
      hint: close
        ? `did you mean ${JSON.stringify(close)}?`
        : `its readers are ${[...readers].map((reader) => JSON.stringify(reader)).join(', ') || 'none'}.`,
    });
  }
}

function notQuantized({ name }: Value): Q8Error {
  return expected('a tensor that is quantized', 'the option overrides', name, {
    hint: 'it stays in float: no quantized node makes or reads it. The reasons are in floatNodes of the report.',
  });
}
