/** Checks what a caller gives to a run: tensors by input name, and the outputs that it wants. */
import { didYouMean, expected, Q8Error } from '../errors';
import type { Dim, Value, ValueType } from '../graph/graph';
import { allocate, type DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';

/** Anything with the members of a Tensor; onnxruntime-common's own will do. */
export interface TensorLike {
  readonly type: string;
  readonly data: unknown;
  readonly dims: readonly number[];
}

export type Feeds = Readonly<Record<string, TensorLike>>;
/** Names of the outputs that are wanted, or tensors to write them to (null: allocate). */
export type Fetches = readonly string[] | Readonly<Record<string, TensorLike | null>>;

/** One output that is wanted. */
export interface Fetch {
  name: string;
  index: number;
  /** The caller's object, to be returned, and its memory. */
  given: TensorLike | null;
  target: Tensor | null;
}

/** What a session declares about an input or output. */
export interface Declared {
  readonly name: string;
  readonly type: DType;
  readonly shape: readonly Dim[] | undefined;
}

/** The inputs in order, checked against what the model declares. Feeds that the model does not have are ignored. */
export function readFeeds(feeds: Feeds, inputs: readonly Declared[]): Tensor[] {
  if (feeds === null || typeof feeds !== 'object' || Array.isArray(feeds) || ArrayBuffer.isView(feeds)) {
    throw expected('an object of tensors by input name', 'feeds', feeds);
  }
  return inputs.map((input) => readFeed(feeds, input));
}

function readFeed(feeds: Feeds, { name, type, shape }: Declared): Tensor {
  const where = `input ${JSON.stringify(name)}`;
  const given = feeds[name];
  if (given === undefined || given === null) {
    const others = Object.keys(feeds);
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', `The ${where} is missing in the feeds.`, {
      hint: `The feeds have ${others.length > 0 ? others.map((n) => JSON.stringify(n)).join(', ') : 'nothing'}.`,
    });
  }
  const tensor = asTensor(given, where);
  if (tensor.type !== type) throw expected(`type ${type}`, where, tensor.type, { code: 'ERR_Q8_UNSUPPORTED_DTYPE' });
  if (
    shape &&
    (shape.length !== tensor.dims.length || shape.some((dim, i) => typeof dim === 'number' && dim !== tensor.dims[i]))
  ) {
    throw new Q8Error(
      'ERR_Q8_SHAPE_MISMATCH',
      `Expected shape [${shape.map(nameOfDim).join(', ')}] for ${where} but received [${tensor.dims.join(', ')}].`,
    );
  }
  return tensor;
}

/** How a dimension is shown to users: unknown ones without a name are '?'. */
export function nameOfDim(dim: Dim): Dim {
  return typeof dim === 'string' && dim.startsWith('?') ? '?' : dim;
}

/** The wanted outputs; all of them by default. */
export function readFetches(fetches: Fetches | undefined, outputs: readonly Declared[]): Fetch[] {
  if (fetches === undefined) return outputs.map(({ name }, index) => ({ name, index, given: null, target: null }));
  if (fetches === null || typeof fetches !== 'object' || ArrayBuffer.isView(fetches)) {
    throw expected('output names or tensors by output name', 'fetches', fetches);
  }
  const names: readonly unknown[] = Array.isArray(fetches) ? fetches : Object.keys(fetches);
  if (names.length === 0) throw expected('at least one output', 'fetches', fetches);
  return names.map((name): Fetch => {
    const index = outputs.findIndex((output) => output.name === name);
    if (index < 0 || typeof name !== 'string') {
      const known = outputs.map((output) => output.name);
      const close = typeof name === 'string' ? didYouMean(name, known) : undefined;
      throw expected('the name of an output', 'fetches', name, {
        hint: close
          ? `Did you mean ${JSON.stringify(close)}?`
          : `The outputs are ${known.map((n) => JSON.stringify(n)).join(', ')}.`,
      });
    }
    const given = Array.isArray(fetches) ? null : ((fetches as Record<string, TensorLike | null>)[name] ?? null);
    const where = `output ${JSON.stringify(name)}`;
    const target = given && asTensor(given, where);
    const { type } = outputs[index];
    if (target && target.type !== type)
      throw expected(`type ${type}`, where, target.type, { code: 'ERR_Q8_UNSUPPORTED_DTYPE' });
    return { name, index, given, target };
  });
}

/**
 * A tensor over the memory that the caller gave. Detached and resizable memory is refused: native code reads it later.
 */
function asTensor(given: TensorLike, where: string): Tensor {
  if (typeof given !== 'object' || !Array.isArray(given.dims) || typeof given.type !== 'string') {
    throw expected('a Tensor', where, given);
  }
  const { data } = given;
  if (ArrayBuffer.isView(data)) {
    const { buffer } = data as Uint8Array;
    const size = given.dims.reduce((a, b) => a * b, 1);
    if ((data as Uint8Array).length === 0 && size > 0) {
      throw new Q8Error('ERR_Q8_DETACHED_BUFFER', `The memory of ${where} is detached.`, {
        hint: 'it was transferred to another thread; give a copy.',
      });
    }
    if ((buffer as { resizable?: boolean }).resizable || (buffer as { growable?: boolean }).growable) {
      throw expected('memory of fixed size', where, 'a resizable buffer');
    }
  }
  return given instanceof Tensor ? given : new Tensor(given.type as DType, data as never, given.dims);
}

/** Targets that native code may write directly: those that share no memory with an input. */
export function directTargets(
  fetches: readonly Fetch[],
  values: readonly Value[],
  inputs: readonly Tensor[],
): Map<Value, Tensor> {
  const read = new Set(inputs.map((tensor) => (tensor.data as Uint8Array).buffer));
  const targets = new Map<Value, Tensor>();
  for (const { index, target } of fetches) {
    if (target && target.type !== 'string' && !read.has((target.data as Uint8Array).buffer))
      targets.set(values[index], target);
  }
  return targets;
}

/**
 * The results by name. An output goes into the caller's tensor if there is one; a tensor that belongs to somebody else
 * (a feed handed through, a constant of the model, another output) is copied.
 */
export function giveResults(
  outputs: readonly Tensor[],
  fetches: readonly Fetch[],
  isOwned: (tensor: Tensor) => boolean,
): Record<string, TensorLike> {
  const given = new Set<Tensor>();
  const results: Record<string, TensorLike> = {};
  for (const { name, index, given: object, target } of fetches) {
    const output = outputs[index];
    if (target && target !== output) {
      if (target.dims.join() !== output.dims.join()) {
        throw new Q8Error(
          'ERR_Q8_SHAPE_MISMATCH',
          `Expected shape [${output.dims.join(', ')}] for output ${JSON.stringify(name)} ` +
            `but received a tensor of [${target.dims.join(', ')}].`,
        );
      }
      copyInto(target, output);
    }
    if (object) results[name] = object;
    else {
      results[name] = isOwned(output) && !given.has(output) ? output : copyOf(output);
      given.add(output);
    }
  }
  return results;
}

function copyOf(tensor: Tensor): Tensor {
  const copy = new Tensor(tensor.type, allocate(tensor.type, tensor.size), tensor.dims);
  copyInto(copy, tensor);
  return copy;
}

function copyInto(target: Tensor, from: Tensor): void {
  if (target.type === 'string') (target.data as string[]).splice(0, target.size, ...(from.data as string[]));
  else (target.data as Uint8Array).set(from.data as Uint8Array);
}

/** Concrete type of a declared input with every symbolic size replaced by 1: what a model can be looked at with. */
export function smallestType({ type, shape }: Declared): ValueType {
  return { dtype: type, shape: (shape ?? []).map((dim) => (typeof dim === 'number' ? dim : 1)) };
}
