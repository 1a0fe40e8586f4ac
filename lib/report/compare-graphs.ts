/**
 * Runs two graphs on the same samples and measures how far apart they are, tensor by tensor. Samples are taken one at a
 * time and only sums are kept, so memory does not depend on their number.
 *
 * Two errors are told apart. Accumulated: each model runs on its own, so a tensor carries the errors of everything before
 * it. Local: every tensor of the other model is computed from the reference's tensors (quantized, where it reads codes), so
 * only the node that makes it is to blame.
 */
import { expected, Q8Error } from '../errors';
import { type Graph, type Node, Value } from '../graph/graph';
import { batchesOf, copyOf, giveOut, givingOut, type RealTensor, type TwinOf } from '../passes/give-out';
import { capturedValues } from '../passes/matching';
import { InferenceSession } from '../runtime/session';
import type { DType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';
import { matchActivations, type TensorPair } from './match-tensors';
import { type Errors, ErrorSums } from './metrics';

/** One sample: a tensor for every input of the models. */
export type Feed = Readonly<Record<string, Tensor>>;

export interface CompareGraphsOptions {
  /** Measure local errors as well: one more run of the other model for each sample. */
  local?: boolean;
  /** Only look at outputs of the reference. Default false: at all tensors. */
  outputsOnly?: boolean;
  /** Sees every tensor of the reference as it streams by. */
  observe?: (name: string, data: Float32Array, dims: readonly number[]) => void;
  /** 0 (default) = all cores. */
  threads?: number;
  signal?: AbortSignal;
  /** Called before the first and after every sample. */
  onSample?: (done: number) => void;
}

export interface ComparedTensor {
  /** As in the reference. */
  name: string;
  /** The node of the reference that makes it; absent for inputs. */
  node?: { name: string; op: string };
  /** What makes it in the other model, and the type in which it exists there. */
  other: { name?: string; op?: string; type: DType };
  isOutput: boolean;
  accumulated: Errors;
  local?: Errors;
  pair: TensorPair;
}

export interface GraphComparison {
  /** In execution order of the reference. */
  tensors: ComparedTensor[];
  samples: number;
}

/**
 * @param reference, other prepared graphs (types known). Not changed.
 * @throws ERR_Q8_INVALID_ARGUMENT without samples or without tensors in common, ERR_Q8_UNSUPPORTED_OP when q8 cannot run a
 * graph.
 */
export async function compareGraphs(
  reference: Graph,
  other: Graph,
  feeds: Iterable<Feed> | AsyncIterable<Feed>,
  options: CompareGraphsOptions = {},
): Promise<GraphComparison> {
  const { signal, onSample, observe } = options;
  const outputs = new Set(reference.outputs);
  const pairs = matchActivations(reference, other).filter(
    ({ reference: { value } }) => !options.outputsOnly || outputs.has(value),
  );
  if (pairs.length === 0) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', 'The models have no tensor in common.', {
      hint: 'tensors are matched by name; compare a model with what was quantized from it.',
    });
  }
  const measured = pairs.map((pair) => ({ pair, accumulated: new ErrorSums(), local: new ErrorSums() }));
  let runs: Run[] | undefined;
  let samples = 0;
  try {
    onSample?.(0);
    for await (const feed of feeds) {
      signal?.throwIfAborted();
      // The reference, the other, and the local run hold each tensor.
      runs ??= batchesOf(reference, measured, ({ pair }) => pair.reference.value, feed, 3).map(
        (batch) => new Run(reference, other, batch, pairs, options),
      );
      for (const run of runs) await run.sample(feed, observe, signal);
      samples++;
      onSample?.(samples);
    }
  } finally {
    for (const run of runs ?? []) run.dispose();
  }
  if (samples === 0) throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', 'Expected at least one sample but received none.');
  return {
    samples,
    tensors: measured.map(({ pair, accumulated, local }) => {
      const producer = pair.reference.value.producer;
      const maker = makerOf(pair.other);
      return {
        name: pair.name,
        ...(producer ? { node: { name: producer.name, op: producer.op } } : {}),
        other: { ...(maker && { name: maker.name, op: maker.op }), type: pair.other.value.type?.dtype ?? 'float32' },
        isOutput: outputs.has(pair.reference.value),
        accumulated: accumulated.errors,
        ...(options.local && maker ? { local: local.errors } : {}),
        pair,
      };
    }),
  };
}

/** The node that computes a tensor; a quantizer behind it only writes it down. */
function makerOf({ value }: RealTensor): Node | undefined {
  const node = value.producer;
  return (node?.op === 'QuantizeLinear' ? node.requiredInput(0).producer : node) ?? undefined;
}

interface Measured {
  pair: TensorPair;
  accumulated: ErrorSums;
  local: ErrorSums;
}

/** Sessions that give out some of the tensors. */
class Run {
  readonly #measured: readonly Measured[];
  readonly #reference: InferenceSession;
  readonly #other: InferenceSession;
  readonly #local: InferenceSession | undefined;

  constructor(
    reference: Graph,
    other: Graph,
    measured: readonly Measured[],
    pairs: readonly TensorPair[],
    { local, threads = 0 }: CompareGraphsOptions,
  ) {
    this.#measured = measured;
    const isolated = local
      ? isolate(
          other,
          measured.map(({ pair }) => pair),
          pairs,
        )
      : undefined;
    this.#local = isolated && InferenceSession.fromGraph(isolated, { threads });
    this.#other = InferenceSession.fromGraph(
      givingOut(
        other,
        measured.map(({ pair }) => pair.other),
      ),
      { threads },
    );
    const wanted = new Set([...measured.map(({ pair }) => pair.name), ...(this.#local?.inputNames ?? [])]);
    this.#reference = InferenceSession.fromGraph(
      givingOut(
        reference,
        pairs.filter(({ name }) => wanted.has(name)).map(({ reference: tensor }) => tensor),
      ),
      { threads },
    );
  }

  async sample(feed: Feed, observe: CompareGraphsOptions['observe'], signal: AbortSignal | undefined): Promise<void> {
    const mine = await this.#reference.run(pick(feed, this.#reference.inputNames), { signal });
    const theirs = await this.#other.run(pick(feed, this.#other.inputNames), { signal });
    const local = await this.#local?.run(pick({ ...feed, ...mine }, this.#local.inputNames), { signal });
    for (const { pair, accumulated, local: localSums } of this.#measured) {
      const { data, dims } = mine[pair.name];
      const other = theirs[pair.name];
      if (dims.join() !== other.dims.join()) {
        throw expected(
          `shape [${dims.join(', ')}]`,
          `tensor ${JSON.stringify(pair.name)} of the other model`,
          other.dims,
          {
            code: 'ERR_Q8_SHAPE_MISMATCH',
          },
        );
      }
      observe?.(pair.name, data as Float32Array, dims);
      accumulated.add(data as Float32Array, other.data as Float32Array);
      if (local) localSums.add(data as Float32Array, local[pair.name].data as Float32Array);
    }
  }

  dispose(): void {
    for (const session of [this.#reference, this.#other, this.#local]) session?.dispose();
  }
}

function pick<T>(from: Readonly<Record<string, T>>, names: readonly string[]): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, from[name]]));
}

/**
 * A copy of `other` that computes `wanted`, each from the reference's tensors: whatever reads one of `pairs` reads a new
 * input of its name instead, through a quantizer where it wants codes.
 */
function isolate(other: Graph, wanted: readonly TensorPair[], pairs: readonly TensorPair[]): Graph {
  const { copy, twinOf } = copyOf(other);
  const captured = capturedValues(copy);
  const inputs: Value[] = [];
  for (const { name, reference, other: tensor } of pairs) {
    const twin = twinOf(tensor.value);
    // Inputs are the same for both models as they are.
    if (!reference.value.producer || !twin.producer || captured.has(twin)) continue;
    const input = new Value(name, { dtype: 'float32', shape: twin.type?.shape });
    const { consumers } = twin;
    const fed = tensor.params ? quantized(copy, input, twin, tensor, twinOf) : input;
    for (const node of consumers) {
      for (let i = 0; i < node.inputs.length; i++) if (node.input(i) === twin) node.setInput(i, fed);
    }
    inputs.push(input);
  }
  giveOut(
    copy,
    wanted.map(({ other: tensor }) => tensor),
    twinOf,
  );
  for (const input of inputs) if (input.consumerCount > 0) copy.inputs.push(input);
  return copy;
}

function quantized(graph: Graph, from: Value, like: Value, { params }: RealTensor, twinOf: TwinOf): Value {
  const output = graph.newValue(`${like.name}_fed`, like.type);
  const { scale, zeroPoint, axis = 0 } = params!;
  graph.addNode({
    name: '',
    op: 'QuantizeLinear',
    inputs: [from, twinOf(scale), zeroPoint && twinOf(zeroPoint)],
    outputs: [output],
    attributes: { axis: { kind: 'int', value: axis } },
  });
  return output;
}
