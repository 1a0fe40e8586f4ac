/**
 * The native road of operators against run(): every ONNX node test with all inputs but the first as constants, and chains
 * after a convolution, where tensors lie channels-last and axes, broadcasting and views must follow.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { AttributeInit } from '../../lib/graph/attributes';
import { Graph, type Value } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { tensorFromProto } from '../../lib/graph/tensor-proto';
import { onnx } from '../../lib/onnx/onnx-proto';
import { lookupOp } from '../../lib/ops/registry';
import { InferenceSession } from '../../lib/runtime/session';
import { Tensor } from '../../lib/tensor/tensor';
import { evaluate, graphOf } from './evaluate';
import { Random, scale, zeroPoint } from './random';

const int = (value: number) => ({ kind: 'int', value }) as const;
const ints = (...value: number[]) => ({ kind: 'ints', value }) as const;
const string = (value: string) => ({ kind: 'string', value }) as const;
const int64 = (...values: number[]) => new Tensor('int64', values);

/** Runs both roads and compares: integers exactly, floats to the bound of the native transcendental functions. */
function check(graph: Graph, feeds: readonly Tensor[]): InferenceSession {
  const expected = evaluate(graph, feeds);
  const session = InferenceSession.fromGraph(graph.clone());
  const actual = session.runSync(Object.fromEntries(graph.inputs.map((value, i) => [value.name, feeds[i]])));
  graph.outputs.forEach((value, i) => {
    const [a, b] = [actual[value.name], expected[i]];
    assert.equal(a.type, b.type);
    assert.deepEqual([...a.dims], [...b.dims]);
    for (let k = 0; k < b.size; k++) {
      const [got, want] = [Number((a.data as ArrayLike<number>)[k]), Number((b.data as ArrayLike<number>)[k])];
      if (Object.is(got, want) || got === want) continue;
      const bound = b.type === 'float32' ? 2e-6 + 1e-5 * Math.abs(want) : 0;
      assert.ok(Math.abs(got - want) <= bound, `${value.name}[${k}] is ${got}, expected ${want}`);
    }
  });
  return session;
}

interface Case {
  name: string;
  model: string;
  sets: { inputs: string[] }[];
}

const CASES: Case[] = JSON.parse(
  gunzipSync(fs.readFileSync(path.join(__dirname, '../fixtures/onnx-node/cases.json.gz'))).toString(),
);

/** Written for opset 1, which sessions refuse. */
const TOO_OLD = new Set(['test_not_2d', 'test_not_3d', 'test_not_4d']);

describe('operators: native road, ONNX node tests', () => {
  for (const { name, model, sets } of CASES) {
    if (TOO_OLD.has(name)) continue;
    it(name, () => {
      const inputs = sets[0].inputs.map((base64) =>
        tensorFromProto(onnx.TensorProto.decode(Buffer.from(base64, 'base64')), 'the fixture'),
      );
      const graph = graphOf(Buffer.from(model, 'base64'));
      check(graph, inputs);
      for (const [i, value] of graph.inputs.splice(1).entries()) value.constant = inputs[i + 1];
      check(graph, inputs.slice(0, 1));
    });
  }
});

type Operand = Tensor | 'x' | 'conv' | number;

/** A node of a chain. Operand 'x' is the graph input, 'conv' the convolution's output, a number an earlier node's output. */
interface Link {
  op: string;
  inputs: Operand[];
  attributes?: AttributeInit;
  domain?: string;
  outputs?: number;
}

const random = new Random(7);
const WEIGHTS = random.floats([6, 4, 3, 3]);

/** x [2, 4, 8, 8] -> Conv [2, 6, 4, 4] -> links; every node's outputs are graph outputs unless a later one reads them. */
function chain(links: readonly Link[]): Graph {
  const graph = new Graph('chain', {
    opsets: new Map([
      ['', 18],
      ['com.microsoft', 1],
    ]),
  });
  const x = graph.newValue('x', { dtype: 'float32', shape: [2, 4, 8, 8] });
  graph.inputs.push(x);
  const conv = graph.addNode({
    name: 'conv',
    op: 'Conv',
    inputs: [x, graph.newConstant('w', WEIGHTS)],
    outputs: [graph.newValue('conv_out')],
    attributes: { strides: ints(2, 2), pads: ints(1, 1, 1, 1) },
  });
  const made: Value[] = [];
  const used = new Set<Value>();
  for (const { op, domain, inputs, attributes, outputs = 1 } of links) {
    const operands = inputs.map((operand) => {
      if (operand instanceof Tensor) return graph.newConstant('c', operand);
      const value = operand === 'x' ? x : operand === 'conv' ? conv.output : made[operand as number];
      used.add(value);
      return value;
    });
    const results = Array.from({ length: outputs }, () => graph.newValue(`${op}_out`));
    graph.addNode({ name: op, op, domain, inputs: operands, outputs: results, attributes });
    made.push(...results);
  }
  graph.outputs.push(...made.filter((value) => !used.has(value)));
  inferShapes(graph, lookupOp);
  return graph;
}

const CHAINS: Record<string, Link[]> = {
  'Add of a constant per channel': [{ op: 'Add', inputs: ['conv', random.floats([6, 1, 1])] }],
  'Mul by a full constant': [{ op: 'Mul', inputs: ['conv', random.floats([1, 6, 4, 4])] }],
  'Sub from a scalar': [{ op: 'Sub', inputs: [random.floats([]), 'conv'] }],
  'Div by a row vector': [{ op: 'Div', inputs: ['conv', random.floats([4], 1, 2)] }],
  'squeeze and excite': [
    { op: 'GlobalAveragePool', inputs: ['conv'] },
    { op: 'Conv', inputs: [0, random.floats([6, 6, 1, 1])] },
    { op: 'Sigmoid', inputs: [1] },
    { op: 'Mul', inputs: ['conv', 2] },
  ],
  'concat of channels, of rows': [
    { op: 'Relu', inputs: ['conv'] },
    { op: 'Concat', inputs: ['conv', 0, 'conv'], attributes: { axis: int(1) } },
    { op: 'Concat', inputs: ['conv', 0], attributes: { axis: int(-2) } },
  ],
  'split of channels': [{ op: 'Split', inputs: ['conv', int64(1, 2, 3)], attributes: { axis: int(1) }, outputs: 3 }],
  'slices with steps': [
    { op: 'Slice', inputs: ['conv', int64(5, 0), int64(-10, 3), int64(1, 3), int64(-2, 2)] },
    { op: 'Relu', inputs: [0] },
  ],
  'softmax over channels': [{ op: 'Softmax', inputs: ['conv'], attributes: { axis: int(1) } }],
  'mean over the plane, kept and dropped': [
    { op: 'ReduceMean', inputs: ['conv', int64(2, 3)] },
    { op: 'ReduceMean', inputs: ['conv', int64(2, 3)], attributes: { keepdims: int(0) } },
    { op: 'ReduceSum', inputs: ['conv', int64(1)], attributes: { keepdims: int(0) } },
    { op: 'ReduceMax', inputs: ['conv', int64(1, 2)], attributes: { keepdims: int(0) } },
    { op: 'ReduceMin', inputs: ['conv', int64(3)], attributes: { keepdims: int(0) } },
    { op: 'ReduceL2', inputs: ['conv', int64(1)] },
  ],
  'flatten, and Gemm': [
    { op: 'Flatten', inputs: ['conv'] },
    { op: 'Gemm', inputs: [0, random.floats([96, 5]), random.floats([5])] },
  ],
  'flatten of a pooled tensor': [
    { op: 'GlobalMaxPool', inputs: ['conv'] },
    { op: 'Reshape', inputs: [0, int64(0, -1)] },
    { op: 'Unsqueeze', inputs: [1, int64(2, 3)] },
    { op: 'Mul', inputs: ['conv', 2] },
  ],
  'to channels-last and back': [
    { op: 'Transpose', inputs: ['conv'], attributes: { perm: ints(0, 2, 3, 1) } },
    { op: 'Add', inputs: [0, random.floats([6])] },
    { op: 'Transpose', inputs: [1], attributes: { perm: ints(0, 3, 1, 2) } },
    { op: 'MaxPool', inputs: [2], attributes: { kernel_shape: ints(2, 2) } },
  ],
  'other transposes': [{ op: 'Transpose', inputs: ['conv'], attributes: { perm: ints(2, 0, 1, 3) } }],
  'nearest resize': [
    { op: 'Resize', inputs: ['conv', random.floats([0]), new Tensor('float32', [1, 1, 2, 3])] },
    { op: 'Relu', inputs: [0] },
  ],
  'a choice by a mask of positions': [
    {
      op: 'Where',
      inputs: [
        new Tensor(
          'bool',
          Array.from({ length: 16 }, (_, i) => Number(i % 3 > 0)),
          [4, 4],
        ),
        'conv',
        scale(-9),
      ],
    },
    { op: 'Where', inputs: [new Tensor('bool', [1, 0, 1, 0], [4, 1]), scale(4), 0] },
    { op: 'Where', inputs: [new Tensor('bool', [0], []), 1, 0] },
    { op: 'Add', inputs: [2, 'conv'] },
  ],
  'linear and cubic resize': [
    {
      op: 'Resize',
      inputs: ['conv', random.floats([0]), new Tensor('float32', [1, 1, 2, 3])],
      attributes: { mode: string('linear') },
    },
    {
      op: 'Resize',
      inputs: [0, random.floats([0]), new Tensor('float32', [1, 1, 0.4, 0.7])],
      attributes: { mode: string('cubic'), coordinate_transformation_mode: string('align_corners') },
    },
    { op: 'Relu', inputs: [1] },
  ],
  'padding in all modes': [
    { op: 'Pad', inputs: ['conv', int64(0, 1, 2, 0, 0, 0, 1, 3), scale(1.5)] },
    { op: 'Pad', inputs: ['conv', int64(0, 0, 1, 2, 0, 0, 3, 1)], attributes: { mode: string('reflect') } },
    { op: 'Pad', inputs: ['conv', int64(0, 2, 1, 0, 0, 0, 0, -1)], attributes: { mode: string('edge') } },
  ],
  'depth to space and back': [
    { op: 'SpaceToDepth', inputs: ['conv'], attributes: { blocksize: int(2) } },
    { op: 'DepthToSpace', inputs: [0], attributes: { blocksize: int(2), mode: string('CRD') } },
  ],
  'average pooling': [
    {
      op: 'AveragePool',
      inputs: ['conv'],
      attributes: { kernel_shape: ints(3, 2), pads: ints(1, 0, 1, 1), count_include_pad: int(1) },
    },
    {
      op: 'AveragePool',
      inputs: ['conv'],
      attributes: { kernel_shape: ints(3, 3), strides: ints(2, 2), ceil_mode: int(1) },
    },
  ],
  'batch normalization': [
    {
      op: 'BatchNormalization',
      inputs: ['conv', random.floats([6]), random.floats([6]), random.floats([6]), random.floats([6], 0.5, 2)],
    },
  ],
  'transposed convolution': [
    {
      op: 'ConvTranspose',
      inputs: ['conv', random.floats([6, 3, 2, 2]), random.floats([3])],
      attributes: { strides: ints(2, 2) },
    },
  ],
  'matrix product of planes': [
    { op: 'MatMul', inputs: ['conv', random.floats([4, 7])] },
    { op: 'MatMul', inputs: ['conv', 'conv'] },
  ],
  'gather of channels': [{ op: 'Gather', inputs: ['conv', int64(5, 0, -2)], attributes: { axis: int(1) } }],
  'layer normalization': [{ op: 'LayerNormalization', inputs: ['conv', random.floats([4]), random.floats([4])] }],
  'expand and tile': [
    { op: 'GlobalAveragePool', inputs: ['conv'] },
    { op: 'Expand', inputs: [0, int64(2, 6, 3, 5)] },
    { op: 'Tile', inputs: ['conv', int64(1, 2, 1, 3)] },
  ],
  '8-bit residual block': [
    { op: 'QuantizeLinear', inputs: ['x', scale(0.01), zeroPoint('uint8', 120)] },
    {
      op: 'QLinearConv',
      inputs: [
        0,
        scale(0.01),
        zeroPoint('uint8', 120),
        random.codes('int8', [4, 4, 3, 3]),
        scale([0.002, 0.003, 0.004, 0.005]),
        zeroPoint('int8', [1, -3, 0, 5]),
        scale(0.02),
        zeroPoint('uint8', 130),
        random.ints([4], -2000, 2000),
      ],
      attributes: { pads: ints(1, 1, 1, 1) },
    },
    {
      op: 'QLinearAdd',
      domain: 'com.microsoft',
      inputs: [
        0,
        scale(0.01),
        zeroPoint('uint8', 120),
        1,
        scale(0.02),
        zeroPoint('uint8', 130),
        scale(0.025),
        zeroPoint('uint8', 126),
      ],
    },
    {
      op: 'QLinearConcat',
      domain: 'com.microsoft',
      inputs: [
        scale(0.02),
        zeroPoint('uint8', 128),
        2,
        scale(0.025),
        zeroPoint('uint8', 126),
        1,
        scale(0.02),
        zeroPoint('uint8', 128),
      ],
      attributes: { axis: int(1) },
    },
    {
      op: 'QLinearGlobalAveragePool',
      domain: 'com.microsoft',
      inputs: [3, scale(0.02), zeroPoint('uint8', 128), scale(0.005), zeroPoint('uint8', 100)],
    },
    { op: 'Flatten', inputs: [4] },
    {
      op: 'QGemm',
      domain: 'com.microsoft',
      inputs: [
        5,
        scale(0.005),
        zeroPoint('uint8', 100),
        random.codes('int8', [3, 8]),
        scale([0.01, 0.02, 0.03]),
        zeroPoint('int8', [0, 0, 0]),
        random.ints([3], -500, 500),
      ],
      attributes: { transB: int(1) },
    },
    {
      op: 'DequantizeLinear',
      inputs: [3, new Tensor('float32', new Array(8).fill(0.1)), zeroPoint('uint8', new Array(8).fill(3))],
    },
  ],
};

describe('operators: native road, channels-last chains', () => {
  for (const [name, links] of Object.entries(CHAINS)) {
    it(name, () => {
      const session = check(chain(links), [random.floats([2, 4, 8, 8])]);
      for (const { name, op, road } of session.nodes) assert.equal(road, 'native', `${name} (${op})`);
    });
  }
});

describe('operators: native road, Where', () => {
  const random = new Random(71);
  const shapes: [number[], number[], number[]][] = [
    [[7], [7], [7]],
    [[], [5], [3, 1]],
    [
      [2, 1, 9],
      [4, 1],
      [2, 4, 9],
    ],
    [[1, 1, 6, 6], [2, 3, 6, 6], []],
    [[2, 1, 1, 6], [1], [2, 3, 6, 6]],
    [[0, 3], [3], [1, 3]],
  ];
  for (const dtype of ['float32', 'int64', 'uint8', 'bool', 'float64', 'int16'] as const) {
    it(`broadcasts all three: ${dtype}`, () => {
      for (const dims of shapes) {
        const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
        const values = (shape: readonly number[]) => [...random.ints([size(shape)], 0, 1).data].map(Number);
        const tensors = [
          new Tensor('bool', values(dims[0]), dims[0]),
          ...[1, 2].map((i) => new Tensor(dtype, values(dims[i]), dims[i])),
        ];
        const graph = new Graph('where', { opsets: new Map([['', 17]]) });
        const inputs = tensors.map(({ type, dims: shape }, i) => graph.newValue(`x${i}`, { dtype: type, shape }));
        graph.inputs.push(...inputs);
        const y = graph.newValue('y');
        graph.addNode({ name: 'where', op: 'Where', inputs, outputs: [y] });
        graph.outputs.push(y);
        inferShapes(graph, lookupOp);
        const session = check(graph, tensors);
        const isEmpty = dims.some((shape) => shape.includes(0));
        assert.equal(session.nodes[0].road, isEmpty ? 'typescript' : 'native');
        session.dispose();
      }
    });
  }
});
