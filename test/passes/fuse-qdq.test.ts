/** fuse-qdq on hand-made patterns: what becomes an integer operator, what must not, and that results stay. */
import assert from 'node:assert/strict';
import type { AttributeInit } from '../../lib/graph/attributes';
import type { Graph, Value } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { fuseQdq } from '../../lib/passes/fuse-qdq';
import { Tensor } from '../../lib/tensor/tensor';
import { float, int, ints, NetworkBuilder, randomTensor } from '../quantize/networks';
import { runGraph } from '../quantize/run-graph';

type Codes = 'uint8' | 'int8';

/** A network with Q/DQ placed by hand. */
class QdqBuilder extends NetworkBuilder {
  quantize(x: Value, scale = 0.02, zeroPoint = 128, dtype: Codes = 'uint8'): Value {
    return this.node('QuantizeLinear', `${x.name}_q`, [x, ...this.#params(x.name, scale, zeroPoint, dtype)]);
  }

  dequantize(codes: Value, scale = 0.02, zeroPoint = 128, dtype: Codes = 'uint8'): Value {
    return this.node('DequantizeLinear', `${codes.name}_dq`, [
      codes,
      ...this.#params(codes.name, scale, zeroPoint, dtype),
    ]);
  }

  pair(x: Value, scale = 0.02, zeroPoint = 128, dtype: Codes = 'uint8'): Value {
    return this.dequantize(this.quantize(x, scale, zeroPoint, dtype), scale, zeroPoint, dtype);
  }

  /** A weight with a scale per index of `axis`. */
  channelWeight(name: string, dims: readonly number[], axis: number): Value {
    const codes = Int8Array.from(randomTensor(dims, 50).data, (v) => Math.round(v * 127));
    const scales = Float32Array.from({ length: dims[axis] }, (_, i) => 0.002 + 0.001 * i);
    return this.node(
      'DequantizeLinear',
      `${name}_dq`,
      [
        this.constant(name, new Tensor('int8', codes, dims)),
        this.constant(`${name}_scale`, new Tensor('float32', scales)),
        this.constant(`${name}_zp`, new Tensor('int8', new Int8Array(scales.length))),
      ],
      { axis: int(axis) },
    );
  }

  #params(name: string, scale: number, zeroPoint: number, dtype: Codes): [Value, Value] {
    return [
      this.constant(`${name}_scale`, new Tensor('float32', [scale], [])),
      this.constant(`${name}_zp`, new Tensor(dtype, [zeroPoint], [])),
    ];
  }
}

function opsOf(graph: Graph): string[] {
  return graph.topologicalOrder().map(({ op }) => op);
}

function codesOf(graph: Graph, feed: Tensor): Float32Array {
  return Object.values(runGraph(graph, { x: feed }))[0].data as Float32Array;
}

/** Fuses a copy; asserts that results differ by at most `steps` output codes of `scale`. Returns the operators. */
function fuse(net: QdqBuilder, feed: Tensor, { steps = 1, scale = 0.02, internal = false } = {}): string[] {
  inferShapes(net.graph, lookupOp);
  const before = codesOf(net.graph, feed);
  const fused = net.graph.clone();
  fuseQdq(fused, { internal });
  const after = codesOf(fused, feed);
  assert.equal(after.length, before.length);
  for (let i = 0; i < before.length; i++) {
    assert.ok(
      Math.abs(after[i] - before[i]) <= steps * scale * 1.0001,
      `element ${i}: ${before[i]} became ${after[i]}`,
    );
  }
  return opsOf(fused);
}

const IMAGE = [1, 4, 6, 6];
const image = randomTensor(IMAGE, 3, 2.5);
const PAD_1: AttributeInit = { pads: ints(1, 1, 1, 1) };

describe('fuseQdq', () => {
  for (const dtype of ['uint8', 'int8'] as const) {
    const zp = dtype === 'uint8' ? 128 : 0;

    it(`${dtype}: a DQ with several readers feeds integer operators all the same`, () => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE), 0.02, zp, dtype);
      const branch = net.pair(
        net.node('Conv', 'conv', [x, net.channelWeight('w', [4, 4, 3, 3], 0)], PAD_1),
        0.02,
        zp,
        dtype,
      );
      net.output(net.pair(net.node('Add', 'sum', [branch, x]), 0.04, zp, dtype));
      assert.deepEqual(fuse(net, image, { scale: 0.04, steps: 2 }), [
        'QuantizeLinear',
        'QLinearConv',
        'QLinearAdd',
        'DequantizeLinear',
      ]);
    });
  }

  it('absorbs Relu where quantizing clamps in the same way', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', IMAGE));
    const conv = net.node('Conv', 'conv', [x, net.channelWeight('w', [4, 4, 1, 1], 0)]);
    net.output(net.pair(net.node('Relu', 'relu', [conv]), 0.01, 0));
    assert.deepEqual(fuse(net, image, { scale: 0.01 }), ['QuantizeLinear', 'QLinearConv', 'DequantizeLinear']);
  });

  it('clamps codes where it does not', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', IMAGE));
    const conv = net.node('Conv', 'conv', [x, net.channelWeight('w', [4, 4, 1, 1], 0)]);
    net.output(net.pair(net.node('Relu', 'relu', [conv]), 0.01, 100));
    assert.deepEqual(fuse(net, image, { scale: 0.01 }), ['QuantizeLinear', 'QLinearConv', 'Clip', 'DequantizeLinear']);
    assert.deepEqual(fuse(net, image, { scale: 0.01, internal: true }), [
      'QuantizeLinear',
      'QLinearConv',
      'TableLookup',
      'DequantizeLinear',
    ]);
  });

  it('makes ConvTranspose an operator of its own inside sessions, and leaves it in files', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', IMAGE));
    const w = net.channelWeight('w', [4, 3, 2, 2], 1);
    const bias = net.constant('b', randomTensor([3], 5));
    const up = net.node('ConvTranspose', 'up', [x, w, bias], { strides: ints(2, 2) });
    net.output(net.pair(net.node('Relu', 'relu', [up]), 0.01, 0));
    const integer = ['QuantizeLinear', 'QLinearConvTranspose', 'DequantizeLinear'];
    assert.deepEqual(fuse(net, image, { scale: 0.01, internal: true }), integer);
    assert.ok(fuse(net, image, { scale: 0.01 }).includes('ConvTranspose'));
  });

  it('leaves a float result that somebody else reads', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', IMAGE));
    const conv = net.node('Conv', 'conv', [x, net.channelWeight('w', [4, 4, 1, 1], 0)]);
    net.output(net.pair(conv));
    net.output(conv);
    assert.ok(fuse(net, image).includes('Conv'));
  });

  it('takes an int32 bias of the right scale, rounds a float one, and leaves one of a wrong scale', () => {
    const build = (bias: (net: QdqBuilder) => Value) => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE), 0.02);
      const weight = net.dequantize(
        net.constant('w', new Tensor('int8', new Int8Array(16).fill(5), [4, 4, 1, 1])),
        0.5,
        0,
        'int8',
      );
      net.output(net.pair(net.node('Conv', 'conv', [x, weight, bias(net)]), 1, 128));
      return fuse(net, image, { scale: 1 });
    };
    const int32 = (scale: number) => (net: QdqBuilder) =>
      net.node('DequantizeLinear', 'b_dq', [
        net.constant('b', new Tensor('int32', [1000, -1000, 3, 0])),
        net.constant('b_scale', new Tensor('float32', [scale], [])),
      ]);
    const integer = ['QuantizeLinear', 'QLinearConv', 'DequantizeLinear'];
    assert.deepEqual(build(int32(0.01)), integer);
    assert.deepEqual(
      build((net) => net.weight('b', [4], 10)),
      integer,
    );
    assert.ok(build(int32(0.02)).includes('Conv'));
  });

  it('fuses MatMul and Gemm, also without a quantizer behind', () => {
    const feed = randomTensor([3, 8], 4, 2);
    for (const op of ['MatMul', 'Gemm']) {
      for (const quantized of [true, false]) {
        const net = new QdqBuilder();
        const x = net.pair(net.input('x', [3, 8]));
        const product = net.node(op, 'product', [x, net.channelWeight('w', [8, 4], 1)]);
        net.output(quantized ? net.pair(product) : product);
        const integer = op === 'Gemm' ? 'QGemm' : quantized ? 'QLinearMatMul' : 'MatMulIntegerToFloat';
        assert.deepEqual(fuse(net, feed), ['QuantizeLinear', integer, ...(quantized ? ['DequantizeLinear'] : [])]);
      }
    }
  });

  it('reaches a weight through Transpose, with its channel axis', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', [3, 8]));
    const weight = net.node('Transpose', 'wt', [net.channelWeight('w', [4, 8], 0)], { perm: ints(1, 0) });
    net.output(net.pair(net.node('MatMul', 'product', [x, weight])));
    assert.deepEqual(fuse(net, randomTensor([3, 8], 4, 2)), ['QuantizeLinear', 'QLinearMatMul', 'DequantizeLinear']);
  });

  const moves: [op: string, attributes: AttributeInit, inputs: (net: QdqBuilder) => (Value | null)[]][] = [
    ['MaxPool', { kernel_shape: ints(2, 2) }, () => []],
    ['Reshape', {}, (net) => [net.constant('shape', new Tensor('int64', [1, 4, 36]))]],
    ['Transpose', { perm: ints(0, 2, 3, 1) }, () => []],
    ['Flatten', {}, () => []],
    ['Unsqueeze', {}, (net) => [net.constant('axes', new Tensor('int64', [0]))]],
    [
      'Slice',
      {},
      (net) => [net.constant('starts', new Tensor('int64', [1])), net.constant('ends', new Tensor('int64', [3]))],
    ],
    ['Pad', {}, (net) => [net.constant('pads', new Tensor('int64', [0, 0, 1, 1, 0, 0, 1, 1]))]],
    [
      'Pad',
      {},
      (net) => [
        net.constant('pads', new Tensor('int64', [0, 0, 1, 1, 0, 0, 1, 1])),
        net.constant('v', new Tensor('float32', [0.5], [])),
      ],
    ],
    ['Gather', { axis: int(1) }, (net) => [net.constant('indices', new Tensor('int64', [2, 0]))]],
  ];
  for (const [op, attributes, inputs] of moves) {
    it(`runs ${op} on codes, exactly`, () => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE));
      net.output(net.pair(net.node(op, 'move', [x, ...inputs(net)], attributes)));
      assert.deepEqual(fuse(net, randomTensor(IMAGE, 3, 1), { steps: 0 }), ['QuantizeLinear', op, 'DequantizeLinear']);
    });
  }

  it('splits codes, exactly, and concatenates those of equal scale', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', IMAGE));
    const parts = [net.graph.newValue('first'), net.graph.newValue('second')];
    const sizes = net.constant('sizes', new Tensor('int64', [1, 3]));
    net.graph.addNode({ name: 'split', op: 'Split', inputs: [x, sizes], outputs: parts, attributes: { axis: int(1) } });
    const [first, second] = parts.map((part) => net.pair(part));
    net.output(net.pair(net.node('Concat', 'swapped', [second, first], { axis: int(1) })));
    assert.deepEqual(fuse(net, image, { steps: 0 }), ['QuantizeLinear', 'Split', 'Concat', 'DequantizeLinear']);
  });

  it('fuses Concat, Mul, AveragePool and Where with scales of their own', () => {
    const build = (make: (net: QdqBuilder, a: Value, b: Value) => Value) => {
      const net = new QdqBuilder();
      const x = net.input('x', IMAGE);
      const a = net.pair(x, 0.02, 120);
      const b = net.pair(net.node('LeakyRelu', 'leaky', [a], { alpha: float(0.2) }), 0.015, 30);
      net.output(net.pair(make(net, a, b), 0.05, 90));
      return fuse(net, image, { scale: 0.05 }).find((op) => op.startsWith('QLinear') && op !== 'QLinearLeakyRelu');
    };
    assert.equal(
      build((net, a, b) => net.node('Concat', 'y', [a, b], { axis: int(2) })),
      'QLinearConcat',
    );
    assert.equal(
      build((net, a, b) => net.node('Mul', 'y', [a, b])),
      'QLinearMul',
    );
    assert.equal(
      build((net, a) => net.node('AveragePool', 'y', [a], { kernel_shape: ints(3, 3), ...PAD_1 })),
      'QLinearAveragePool',
    );
    const mask = new Tensor('bool', [true, false, true, true, false, false], [6]);
    assert.equal(
      build((net, a, b) => net.node('Where', 'y', [net.constant('mask', mask), a, b])),
      'QLinearWhere',
    );
  });

  it('asks codes for the shape of what they stand for', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', ['N', 4, 6, 6]));
    const shape = net.node('Shape', 'shape', [x]);
    net.output(net.pair(net.node('Reshape', 'same', [net.node('LeakyRelu', 'leaky', [x]), shape])));
    const ops = fuse(net, image);
    assert.equal(ops.filter((op) => op === 'DequantizeLinear').length, 1);
  });

  it('does not pad codes with a value that is not one', () => {
    const net = new QdqBuilder();
    const pads = net.constant('pads', new Tensor('int64', [0, 0, 1, 1, 0, 0, 1, 1]));
    const value = net.constant('v', new Tensor('float32', [0.013], []));
    const padded = net.node('Pad', 'move', [net.pair(net.input('x', IMAGE)), pads, value]);
    net.output(net.node('Sqrt', 'root', [net.node('Abs', 'abs', [padded])]));
    fuseQdq(net.graph);
    assert.deepEqual(opsOf(net.graph).slice(0, 3), ['QuantizeLinear', 'DequantizeLinear', 'Pad']);
  });

  it('pulls a quantizer above moves, so that the operator before them ends in codes', () => {
    const net = new QdqBuilder();
    const x = net.pair(net.input('x', IMAGE));
    const conv = net.node('Conv', 'conv', [x, net.channelWeight('w', [4, 4, 1, 1], 0)]);
    const pool = net.node('MaxPool', 'pool', [conv], { kernel_shape: ints(2, 2), strides: ints(2, 2) });
    net.output(net.pair(net.node('Flatten', 'flat', [pool])));
    assert.deepEqual(fuse(net, image), ['QuantizeLinear', 'QLinearConv', 'MaxPool', 'Flatten', 'DequantizeLinear']);
  });

  it('makes one quantizer of equal ones', () => {
    const net = new QdqBuilder();
    const x = net.input('x', IMAGE);
    const relu = net.node('LeakyRelu', 'relu', [net.pair(x)], { alpha: float(0.1) });
    net.output(net.pair(net.node('Add', 'sum', [net.pair(relu), net.pair(relu)]), 0.04));
    assert.deepEqual(fuse(net, image, { scale: 0.04 }), [
      'QuantizeLinear',
      'QLinearLeakyRelu',
      'QLinearAdd',
      'DequantizeLinear',
    ]);
  });

  it('knows ReduceMean over all spatial axes as global average pooling', () => {
    for (const axes of [
      [2, 3],
      [-1, -2],
    ]) {
      const net = new QdqBuilder();
      const mean = net.node('ReduceMean', 'mean', [net.pair(net.input('x', IMAGE))], { axes: ints(...axes) });
      net.output(net.pair(mean));
      assert.deepEqual(fuse(net, image), ['QuantizeLinear', 'QLinearGlobalAveragePool', 'DequantizeLinear']);
    }
  });

  const means: [axes: number[] | undefined, keepDims: number, moves: string[]][] = [
    [[2, 3], 0, ['QLinearGlobalAveragePool', 'Squeeze']],
    [[1, 2], 1, ['Transpose', 'QLinearGlobalAveragePool', 'Squeeze', 'Unsqueeze']],
    [[-1, 0], 0, ['Transpose', 'QLinearGlobalAveragePool', 'Squeeze']],
    [[0, 1, 3], 0, ['Transpose', 'Unsqueeze', 'QLinearGlobalAveragePool', 'Squeeze']],
    [[0, 1, 3], 1, ['Transpose', 'Unsqueeze', 'QLinearGlobalAveragePool', 'Squeeze', 'Unsqueeze']],
    [undefined, 0, ['Unsqueeze', 'QLinearGlobalAveragePool', 'Squeeze']],
    [undefined, 1, ['Unsqueeze', 'QLinearGlobalAveragePool', 'Squeeze', 'Unsqueeze']],
    // Three axes are left.
    [[1], 1, ['DequantizeLinear', 'ReduceMean', 'QuantizeLinear']],
  ];
  for (const [axes, keepDims, moves] of means) {
    it(`pools for the mean over ${axes ? `axes ${axes.join(', ')}` : 'everything'}, keepdims ${keepDims}`, () => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', [2, 4, 6, 5]));
      const attributes = { keepdims: int(keepDims), ...(axes ? { axes: ints(...axes) } : {}) };
      net.output(net.pair(net.node('ReduceMean', 'mean', [x], attributes), 0.005, 128));
      const feed = randomTensor([2, 4, 6, 5], 3, 1);
      assert.deepEqual(fuse(net, feed, { scale: 0.005 }), ['QuantizeLinear', ...moves, 'DequantizeLinear']);
    });
  }

  it('subtracts, divides by numbers, and takes one slope, on codes that every runtime has', () => {
    const build = (make: (net: QdqBuilder, a: Value, b: Value) => Value, dtype: Codes) => {
      const zp = dtype === 'uint8' ? 128 : 0;
      const net = new QdqBuilder();
      const x = net.input('x', IMAGE);
      const a = net.pair(x, 0.02, zp + 3, dtype);
      const b = net.pair(net.node('LeakyRelu', 'leaky', [a], { alpha: float(0.2) }), 0.015, zp - 90, dtype);
      net.output(net.pair(make(net, a, b), 0.05, zp - 9, dtype));
      return new Set(fuse(net, image, { scale: 0.05 }));
    };
    const pairs = ['QuantizeLinear', 'QLinearLeakyRelu', 'DequantizeLinear'];
    for (const dtype of ['uint8', 'int8'] as const) {
      assert.deepEqual(
        build((net, a, b) => net.node('Sub', 'y', [a, b]), dtype),
        new Set([...pairs, 'QLinearAdd']),
      );
      for (const divisor of [0.7, -3]) {
        const number = new Tensor('float32', [divisor], []);
        assert.deepEqual(
          build((net, a) => net.node('Div', 'y', [a, net.constant('c', number)]), dtype),
          new Set([...pairs, 'QLinearMul']),
        );
      }
      const slope = new Tensor('float32', [0.25], [1]);
      assert.deepEqual(
        build((net, a) => net.node('PRelu', 'y', [a, net.constant('s', slope)]), dtype),
        new Set(pairs),
      );
    }
  });

  it('leaves divisions by zero and by tensors', () => {
    for (const divisor of [new Tensor('float32', [0], []), randomTensor([1, 4, 1, 1], 2)]) {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE));
      net.output(net.pair(net.node('Div', 'y', [x, net.constant('c', divisor)])));
      fuseQdq(net.graph);
      assert.ok(opsOf(net.graph).includes('Div'));
    }
  });

  it('selects among codes of one scale', () => {
    for (const op of ['Max', 'Min']) {
      const build = (scale: number) => {
        const net = new QdqBuilder();
        const x = net.input('x', IMAGE);
        const a = net.pair(x);
        const b = net.pair(net.node('Transpose', 'turned', [x], { perm: ints(0, 1, 3, 2) }), scale);
        net.output(net.pair(net.node(op, 'y', [a, b])));
        return fuse(net, image, { steps: 0 });
      };
      assert.ok(build(0.02).join().endsWith(`${op},DequantizeLinear`));
      assert.ok(build(0.03).join().includes(`DequantizeLinear,${op},QuantizeLinear`));
    }
  });

  it('asks codes which of them is the largest', () => {
    for (const op of ['ArgMax', 'ArgMin']) {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE));
      net.output(net.node(op, 'y', [net.node('LeakyRelu', 'leaky', [x])], { axis: int(1) }));
      net.output(net.node(op, 'z', [net.pair(x)], { axis: int(1) }));
      const before = runGraph(net.graph, { x: image });
      fuseQdq(net.graph);
      assert.deepEqual(runGraph(net.graph, { x: image }), before);
      assert.equal([...net.graph.nodes].find(({ name }) => name === 'z')?.input(0)?.producer?.op, 'QuantizeLinear');
    }
  });

  it('moves codes through TopK and SpaceToDepth for the runtime only', () => {
    const build = (dtype: Codes) => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE), 0.02, dtype === 'uint8' ? 128 : 0, dtype);
      const deep = net.node('SpaceToDepth', 'deep', [x], { blocksize: int(2) });
      const values = net.graph.newValue('values');
      net.graph.addNode({
        name: 'top',
        op: 'TopK',
        inputs: [deep, net.constant('k', new Tensor('int64', [3]))],
        outputs: [values, net.graph.newValue('indices')],
      });
      net.output(values);
      return net;
    };
    for (const dtype of ['uint8', 'int8'] as const) {
      assert.deepEqual(fuse(build(dtype), image, { steps: 0, internal: true }), [
        'QuantizeLinear',
        'SpaceToDepth',
        'TopK',
        'DequantizeLinear',
      ]);
      assert.deepEqual(fuse(build(dtype), image, { steps: 0 })[1], 'DequantizeLinear');
    }
  });

  it('fuses Softmax only where onnxruntime computes it right', () => {
    const build = (scale: number, zeroPoint: number, dtype: Codes) => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', [2, 5]), 0.02, dtype === 'uint8' ? 128 : 0, dtype);
      net.output(net.pair(net.node('Softmax', 'soft', [x]), scale, zeroPoint, dtype));
      return fuse(net, randomTensor([2, 5], 8, 2), { scale: 1 / 256 })[1];
    };
    assert.equal(build(1 / 256, 0, 'uint8'), 'QLinearSoftmax');
    assert.equal(build(1 / 255, 0, 'uint8'), 'DequantizeLinear');
    assert.equal(build(1 / 256, -128, 'int8'), 'DequantizeLinear');
  });

  it('leaves operators without an integer form in files, and makes tables of them for the runtime', () => {
    const build = () => {
      const net = new QdqBuilder();
      const x = net.pair(net.input('x', IMAGE));
      const swish = net.pair(net.node('HardSwish', 'swish', [x]), 0.015, 20);
      const half = net.constant('half', new Tensor('float32', [0.5], []));
      const shifted = net.pair(net.node('Sub', 'shift', [swish, half]), 0.02, 60, 'uint8');
      const divided = net.node('Div', 'divide', [half, net.node('Exp', 'exp', [shifted])]);
      net.output(net.pair(divided, 0.01, 0));
      return net;
    };
    assert.ok(fuse(build(), image, { steps: 0 }).includes('HardSwish'));
    const internal = fuse(build(), image, { steps: 0, internal: true });
    assert.deepEqual(internal.slice(0, 4), ['QuantizeLinear', 'TableLookup', 'TableLookup', 'DequantizeLinear']);
  });

  it('turns a change of parameters into a table for the runtime', () => {
    const net = new QdqBuilder();
    net.output(net.pair(net.pair(net.input('x', IMAGE)), 0.05, 3, 'int8'));
    assert.deepEqual(fuse(net, image, { steps: 0, internal: true }), [
      'QuantizeLinear',
      'TableLookup',
      'DequantizeLinear',
    ]);
  });

  it('refuses nothing: scales that are computed, negative or per channel stay in float', () => {
    const net = new QdqBuilder();
    const x = net.input('x', IMAGE);
    const scale = net.node('ReduceMax', 'scale', [net.node('Abs', 'abs', [x])], { keepdims: int(0) });
    const zero = net.constant('zero', new Tensor('uint8', [0], []));
    const q = net.node('QuantizeLinear', 'q', [x, scale, zero]);
    const dq = net.node('DequantizeLinear', 'dq', [q, scale, zero]);
    net.output(net.pair(net.node('Sigmoid', 'soft', [dq]), 1 / 256, 0));
    fuseQdq(net.graph);
    assert.ok(opsOf(net.graph).includes('Sigmoid'));
  });

  it('takes seconds for 20 000 nodes, one value being read by thousands', function () {
    this.timeout(20000);
    const net = new QdqBuilder();
    let x = net.pair(net.input('x', [1, 8]));
    const first = x;
    for (let i = 0; i < 5000; i++) {
      x = net.pair(net.node('Relu', `relu${i}`, [net.node('Add', `add${i}`, [x, first])]));
    }
    net.output(x);
    assert.ok(net.graph.nodes.size >= 20000);
    const start = performance.now();
    fuseQdq(net.graph);
    assert.ok(performance.now() - start < 5000, `${performance.now() - start} ms`);
    assert.equal([...net.graph.nodes].filter(({ op }) => op === 'QLinearAdd').length, 5000);
  });
});
