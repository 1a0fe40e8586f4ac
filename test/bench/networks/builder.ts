/**
 * Builds float image networks of full size with random weights: the shapes and the values' ranges of real ones, without
 * their files. The same calls give the same bytes on every machine.
 */
import type { AttributeInit } from '../../../lib/graph/attributes';
import { Graph, Value } from '../../../lib/graph/graph';
import { Tensor } from '../../../lib/tensor/tensor';

export type Activation = 'Relu' | 'Relu6' | 'HardSwish' | 'SiLU' | 'HardSigmoid' | 'Sigmoid';

export interface ConvOptions {
  kernel?: number;
  stride?: number;
  /** 'depthwise': as many groups as channels, and as many outputs. */
  group?: 'depthwise' | number;
  activation?: Activation;
}

const int = (value: number) => ({ kind: 'int' as const, value });
const float = (value: number) => ({ kind: 'float' as const, value });
const ints = (...value: number[]) => ({ kind: 'ints' as const, value });

export class NetworkBuilder {
  readonly graph: Graph;
  /** float32 [batch, 3, size, size]. */
  readonly image: Value;
  readonly #channels = new Map<Value, number>();
  #state: number;

  constructor(name: string, size: number, seed = 1) {
    this.graph = new Graph(name, { opsets: new Map([['', 17]]) });
    this.#state = seed * 2654435761 || 1;
    this.image = new Value('image', { dtype: 'float32', shape: ['batch', 3, size, size] });
    this.graph.reserve('image');
    this.graph.inputs.push(this.image);
    this.#channels.set(this.image, 3);
  }

  channels(value: Value): number {
    return this.#channels.get(value)!;
  }

  /** Convolution with bias and 'same' padding, then the activation. */
  conv(x: Value, outputs: number, { kernel = 1, stride = 1, group = 1, activation }: ConvOptions = {}): Value {
    const inputs = this.channels(x);
    const groups = group === 'depthwise' ? inputs : group;
    const depth = (inputs / groups) * kernel * kernel;
    const pad = kernel >> 1;
    const y = this.#node(
      'Conv',
      [
        x,
        this.#weights([outputs, inputs / groups, kernel, kernel], Math.sqrt(2 / depth)),
        this.#weights([outputs], 0.1),
      ],
      outputs,
      {
        kernel_shape: ints(kernel, kernel),
        strides: ints(stride, stride),
        pads: ints(pad, pad, pad, pad),
        group: int(groups),
      },
    );
    return activation ? this.activate(y, activation) : y;
  }

  activate(x: Value, kind: Activation): Value {
    const channels = this.channels(x);
    switch (kind) {
      case 'Relu6':
        return this.#node('Clip', [x, this.#scalar(0), this.#scalar(6)], channels);
      case 'SiLU':
        return this.mul(x, this.activate(x, 'Sigmoid'));
      case 'HardSigmoid':
        return this.#node(kind, [x], channels, { alpha: float(1 / 6), beta: float(0.5) });
      default:
        return this.#node(kind, [x], channels);
    }
  }

  add(a: Value, b: Value): Value {
    return this.#node('Add', [a, b], this.channels(a));
  }

  mul(a: Value, b: Value): Value {
    return this.#node('Mul', [a, b], this.channels(a));
  }

  concat(...values: Value[]): Value {
    const channels = values.reduce((sum, value) => sum + this.channels(value), 0);
    return this.#node('Concat', values, channels, { axis: int(1) });
  }

  maxPool(x: Value, kernel: number, stride: number): Value {
    const pad = kernel >> 1;
    return this.#node('MaxPool', [x], this.channels(x), {
      kernel_shape: ints(kernel, kernel),
      strides: ints(stride, stride),
      pads: ints(pad, pad, pad, pad),
    });
  }

  globalAveragePool(x: Value): Value {
    return this.#node('GlobalAveragePool', [x], this.channels(x));
  }

  /** Twice as high and wide, by repeating pixels. */
  upsample(x: Value): Value {
    const scales = this.#constant(new Tensor('float32', [1, 1, 2, 2]));
    return this.#node('Resize', [x, null, scales], this.channels(x), {
      mode: { kind: 'string', value: 'nearest' },
      coordinate_transformation_mode: { kind: 'string', value: 'asymmetric' },
      nearest_mode: { kind: 'string', value: 'floor' },
    });
  }

  /** Squeeze and excitation: the channels of x times gates made from their means. */
  squeezeExcite(x: Value, squeezed: number, inner: Activation, gate: Activation): Value {
    const reduced = this.conv(this.globalAveragePool(x), squeezed, { activation: inner });
    return this.mul(x, this.conv(reduced, this.channels(x), { activation: gate }));
  }

  /** [batch, C, 1, 1] -> [batch, outputs]. */
  classify(x: Value, outputs: number, activation?: Activation): Value {
    const flat = x === this.image || x.producer?.op === 'Gemm' || this.#flat.has(x) ? x : this.#flatten(x);
    const inputs = this.channels(x);
    const y = this.#node(
      'Gemm',
      [flat, this.#weights([outputs, inputs], Math.sqrt(2 / inputs)), this.#weights([outputs], 0.1)],
      outputs,
      { transB: int(1) },
    );
    const result = activation ? this.activate(y, activation) : y;
    this.#flat.add(result);
    return result;
  }

  readonly #flat = new Set<Value>();

  #flatten(x: Value): Value {
    return this.#node('Flatten', [x], this.channels(x), { axis: int(1) });
  }

  /** Declares the outputs and gives the graph out. */
  finish(...outputs: Value[]): Graph {
    for (const [i, value] of outputs.entries()) {
      value.name = this.graph.uniqueName(`output_${i}`);
      value.type = { dtype: 'float32' };
      this.graph.outputs.push(value);
    }
    return this.graph;
  }

  #node(op: string, inputs: (Value | null)[], channels: number, attributes: AttributeInit = {}): Value {
    const output = this.graph.newValue(op.toLowerCase());
    this.graph.addNode({ name: this.graph.uniqueName(op), op, inputs, outputs: [output], attributes });
    this.#channels.set(output, channels);
    return output;
  }

  #constant(tensor: Tensor): Value {
    return this.graph.newConstant('constant', tensor);
  }

  #scalar(value: number): Value {
    return this.#constant(new Tensor('float32', [value], []));
  }

  /** Normally distributed numbers, nearly. */
  #weights(dims: readonly number[], deviation: number): Value {
    const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
    const scale = deviation / Math.sqrt(4 / 12);
    for (let i = 0; i < data.length; i++) {
      let sum = -2;
      for (let j = 0; j < 4; j++) sum += this.#random();
      data[i] = sum * scale;
    }
    return this.#constant(new Tensor('float32', data, dims));
  }

  #random(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) / 2 ** 32;
  }
}
