/**
 * Small graphs made by hand, and the three that run them: q8's session, q8's interpreter, and onnxruntime-node as a judge
 * from outside.
 */
import assert from 'node:assert/strict';
import * as ort from 'onnxruntime-node';
import type { AttributeInit } from '../../lib/graph/attributes';
import { type Dim, Graph, Value } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import type { DataOf, DType } from '../../lib/tensor/dtype';
import { Tensor } from '../../lib/tensor/tensor';

/** A graph under construction. Every method returns the value that it made. */
export class GraphBuilder {
  readonly graph: Graph;

  constructor(opset = 17, parent: Graph | null = null) {
    this.graph = parent
      ? new Graph('body', { parent })
      : new Graph('test', {
          opsets: new Map([
            ['', opset],
            ['com.microsoft', 1],
          ]),
        });
  }

  input(name: string, dtype: DType, shape: readonly Dim[]): Value {
    const value = new Value(name, { dtype, shape });
    this.graph.reserve(name);
    this.graph.inputs.push(value);
    return value;
  }

  constant<T extends DType>(dtype: T, data: DataOf[T] | readonly number[], dims?: readonly number[]): Value {
    return this.graph.newConstant('c', new Tensor(dtype, data as readonly number[], dims));
  }

  /** A float32 constant of reproducible values in [-scale, scale]. */
  weights(dims: readonly number[], scale = 0.5, seed = 1): Value {
    return this.graph.newConstant('w', noise(dims, scale, seed));
  }

  node(op: string, inputs: readonly (Value | null)[], attributes: AttributeInit = {}, domain = ''): Value {
    const output = this.graph.newValue(op.toLowerCase());
    this.graph.addNode({
      name: this.graph.uniqueName(`${op}_node`),
      op,
      domain,
      inputs,
      outputs: [output],
      attributes,
    });
    return output;
  }

  /** Makes values outputs of the graph, named in order if names are given. */
  outputs(values: readonly Value[], types: readonly { dtype: DType; shape?: readonly Dim[] }[]): Graph {
    values.forEach((value, i) => {
      value.type = types[i];
      this.graph.outputs.push(value);
    });
    return this.graph;
  }
}

export const ints = (...value: number[]): { kind: 'ints'; value: number[] } => ({ kind: 'ints', value });
export const int = (value: number): { kind: 'int'; value: number } => ({ kind: 'int', value });
export const float = (value: number): { kind: 'float'; value: number } => ({ kind: 'float', value });

/** Reproducible pseudo-random numbers in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

export function noise(dims: readonly number[], scale = 1, seed = 1): Tensor<'float32'> {
  const next = random(seed * 7919 + 17);
  const size = dims.reduce((a, b) => a * b, 1);
  return new Tensor(
    'float32',
    Float32Array.from({ length: size }, () => (next() * 2 - 1) * scale),
    dims,
  );
}

/** Reproducible integers in [low, high]. */
export function codes<T extends 'uint8' | 'int8'>(
  type: T,
  dims: readonly number[],
  low: number,
  high: number,
  seed = 1,
): Tensor<T> {
  const next = random(seed * 104729 + 3);
  const size = dims.reduce((a, b) => a * b, 1);
  const values = Array.from({ length: size }, () => low + Math.floor(next() * (high - low + 1)));
  return new Tensor(type, values, dims);
}

export function modelBytes(graph: Graph): Uint8Array {
  return writeModel(graphToProto(graph.clone()));
}

/** What onnxruntime-node makes of a model. */
export async function runOrt(
  model: Uint8Array | string,
  feeds: Record<string, Tensor>,
): Promise<Record<string, Tensor>> {
  const options: ort.InferenceSession.SessionOptions = { logSeverityLevel: 3, intraOpNumThreads: 1 };
  const session =
    typeof model === 'string'
      ? await ort.InferenceSession.create(model, options)
      : await ort.InferenceSession.create(model, options);
  const given = Object.fromEntries(
    Object.entries(feeds).map(([name, t]) => [
      name,
      new ort.Tensor(t.type as 'float32', t.data as Float32Array, t.dims),
    ]),
  );
  const results = await session.run(given);
  await session.release();
  return Object.fromEntries(
    Object.entries(results).map(([name, t]) => [name, new Tensor(t.type as DType, t.data as Float32Array, t.dims)]),
  );
}

/** Compares floats: |got - want| <= tolerance * (1 + |want|). Integers must differ by at most `tolerance`. */
export function assertClose(
  got: { data: unknown; dims: readonly number[] },
  want: Tensor,
  tolerance: number,
  what: string,
): void {
  assert.deepEqual([...got.dims], [...want.dims], `${what}: dims`);
  const a = got.data as Float32Array;
  const b = want.data as Float32Array;
  const relative = want.type === 'float32' || want.type === 'float64';
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs(Number(a[i]) - Number(b[i]));
    const bound = relative ? tolerance * (1 + Math.abs(Number(b[i]))) : tolerance;
    if (!(difference <= bound)) assert.fail(`${what}: element ${i} is ${a[i]}, expected ${b[i]} within ${bound}`);
  }
}
