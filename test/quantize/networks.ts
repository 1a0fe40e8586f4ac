/** Small float networks for tests, with reproducible weights, and their calibration data. */
import type { AttributeInit } from '../../lib/graph/attributes';
import { type Dim, Graph, Value } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import { Tensor } from '../../lib/tensor/tensor';

/** Uniform floats in [-1, 1) from a linear congruential generator. */
export function random(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  };
}

export function randomTensor(dims: readonly number[], seed: number, scale = 1): Tensor<'float32'> {
  const next = random(seed);
  return new Tensor(
    'float32',
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => next() * scale),
    dims,
  );
}

/** Builds a graph node by node. */
export class NetworkBuilder {
  readonly graph: Graph;
  #seed = 1;

  constructor(opset = 17) {
    this.graph = new Graph('test', { opsets: new Map([['', opset]]) });
  }

  input(name: string, shape: readonly Dim[]): Value {
    const value = new Value(name, { dtype: 'float32', shape });
    this.graph.reserve(name);
    this.graph.inputs.push(value);
    return value;
  }

  weight(name: string, dims: readonly number[], scale = 1): Value {
    return this.graph.newConstant(name, randomTensor(dims, this.#seed++, scale));
  }

  constant(name: string, tensor: Tensor): Value {
    return this.graph.newConstant(name, tensor);
  }

  /** Adds a node named like its output. */
  node(
    op: string,
    name: string,
    inputs: readonly (Value | null)[],
    attributes: AttributeInit = {},
    domain = '',
  ): Value {
    const output = this.graph.newValue(name);
    this.graph.addNode({ name, op, domain, inputs, outputs: [output], attributes });
    return output;
  }

  conv(name: string, x: Value, dims: readonly number[], attributes: AttributeInit = {}): Value {
    const fan = dims.slice(1).reduce((a, b) => a * b, 1);
    const weight = this.weight(`${name}_w`, dims, Math.sqrt(3 / fan));
    return this.node('Conv', name, [x, weight, this.weight(`${name}_b`, [dims[0]], 0.1)], attributes);
  }

  output(value: Value): void {
    this.graph.outputs.push(value);
    value.type ??= { dtype: 'float32' };
  }

  bytes(): Uint8Array {
    return writeModel(graphToProto(this.graph));
  }
}

export function ints(...value: number[]): AttributeInit[string] {
  return { kind: 'ints', value };
}

export function int(value: number): AttributeInit[string] {
  return { kind: 'int', value };
}

export function float(value: number): AttributeInit[string] {
  return { kind: 'float', value };
}

const PAD_1 = { pads: ints(1, 1, 1, 1) };

export interface TestNetwork {
  name: string;
  model: Uint8Array;
  inputDims: number[];
}

/** Residual block, pooling, concatenation, Gemm with factors: what classifiers are made of. */
function residualNet(): TestNetwork {
  const net = new NetworkBuilder();
  const x = net.input('x', ['N', 3, 8, 8]);
  const stem = net.node('Relu', 'stem_relu', [net.conv('stem', x, [8, 3, 3, 3], PAD_1)]);
  const pool = net.node('MaxPool', 'pool', [stem], { kernel_shape: ints(2, 2), strides: ints(2, 2) });
  const left = net.conv('left', pool, [8, 8, 3, 3], PAD_1);
  const sum = net.node('Relu', 'sum_relu', [net.node('Add', 'sum', [left, pool])]);
  const six = net.constant('six', new Tensor('float32', [6], []));
  const zero = net.constant('zero', new Tensor('float32', [0], []));
  const depthwise = net.conv('depthwise', sum, [8, 1, 3, 3], { ...PAD_1, group: int(8) });
  const clip = net.node('Clip', 'depthwise_clip', [depthwise, zero, six]);
  const both = net.node('Concat', 'both', [sum, clip], { axis: int(1) });
  const mean = net.node('GlobalAveragePool', 'mean', [both]);
  const flat = net.node('Flatten', 'flat', [mean]);
  const logits = net.node(
    'Gemm',
    'logits',
    [flat, net.weight('logits_w', [5, 16], 0.5), net.weight('logits_b', [5], 0.5)],
    { transB: int(1), alpha: float(1.5), beta: float(0.5) },
  );
  net.output(logits);
  return { name: 'residual', model: net.bytes(), inputDims: [2, 3, 8, 8] };
}

/** Squeeze-and-excite with HardSwish and HardSigmoid, LeakyRelu, average pooling: the spirit of MobileNetV3. */
function exciteNet(): TestNetwork {
  const net = new NetworkBuilder();
  const x = net.input('x', [1, 4, 9, 9]);
  const swish = net.node('HardSwish', 'swish', [net.conv('stem', x, [16, 4, 3, 3], { strides: ints(2, 2), ...PAD_1 })]);
  const squeeze = net.node('GlobalAveragePool', 'squeeze', [swish]);
  const reduced = net.node('Relu', 'reduced_relu', [net.conv('reduced', squeeze, [4, 16, 1, 1])]);
  const gate = net.node('HardSigmoid', 'gate', [net.conv('expanded', reduced, [16, 4, 1, 1])], {
    alpha: float(1 / 6),
    beta: float(0.5),
  });
  const scaled = net.node('Mul', 'scaled', [swish, gate]);
  const leaky = net.node('LeakyRelu', 'leaky', [net.conv('mix', scaled, [8, 16, 1, 1])], { alpha: float(0.1) });
  const soft = net.node('Sigmoid', 'soft', [net.conv('head', leaky, [8, 8, 3, 3], PAD_1)]);
  const average = net.node('AveragePool', 'average', [soft], {
    kernel_shape: ints(3, 3),
    strides: ints(2, 2),
    ...PAD_1,
  });
  net.output(average);
  return { name: 'excite', model: net.bytes(), inputDims: [1, 4, 9, 9] };
}

/** One attention head: products of two activations, Softmax, moves in between. */
function attentionNet(): TestNetwork {
  const net = new NetworkBuilder();
  const x = net.input('x', [2, 6, 16]);
  const project = (name: string) => {
    const product = net.node('MatMul', name, [x, net.weight(`${name}_w`, [16, 16], 0.4)]);
    return net.node('Add', `${name}_sum`, [product, net.weight(`${name}_b`, [16], 0.2)]);
  };
  const keys = net.node('Transpose', 'keys_t', [project('keys')], { perm: ints(0, 2, 1) });
  const scores = net.node('MatMul', 'scores', [project('queries'), keys]);
  const weights = net.node('Softmax', 'weights', [scores], { axis: int(-1) });
  const mixed = net.node('MatMul', 'mixed', [weights, project('values')]);
  const shape = net.constant('shape', new Tensor('int64', [2, 96]));
  const rows = net.node('Reshape', 'rows', [mixed, shape]);
  net.output(net.node('Gemm', 'out', [rows, net.weight('out_w', [96, 4], 0.3), net.weight('out_b', [4])]));
  return { name: 'attention', model: net.bytes(), inputDims: [2, 6, 16] };
}

export const NETWORKS: readonly TestNetwork[] = [residualNet(), exciteNet(), attentionNet()];

/** `count` feeds for a network with the input "x". */
export function feedsFor({ inputDims }: TestNetwork, count: number, seed = 100): { x: Tensor<'float32'> }[] {
  return Array.from({ length: count }, (_, i) => ({ x: randomTensor(inputDims, seed + i, 2) }));
}
