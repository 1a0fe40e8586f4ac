/** upgrade-opset: every changed operator gives, in its new spelling, what onnxruntime makes of the old one. */
import assert from 'node:assert/strict';
import * as ort from 'onnxruntime-node';
import type { AttributeInit } from '../../lib/graph/attributes';
import type { Graph, Value } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import { NEWEST_TARGET, upgradeOpset, USUAL_OPSET } from '../../lib/passes/upgrade-opset';
import { Tensor } from '../../lib/tensor/tensor';
import { float, int, ints, NetworkBuilder, randomTensor } from '../quantize/networks';
import { runGraph } from '../quantize/run-graph';

interface Case {
  what: string;
  opset: number;
  op: string;
  attributes?: AttributeInit;
  dims?: number[];
  /** Further inputs. */
  inputs?: (net: NetworkBuilder) => Value[];
  /** Default: the usual one. */
  target?: number;
  /** Operators after the upgrade; default: the operator itself. */
  becomes?: string[];
  outputs?: number;
}

const IMAGE = [1, 2, 4, 6];
const floats = (...value: number[]): AttributeInit[string] => ({ kind: 'floats', value });
const mode = (value: string): AttributeInit[string] => ({ kind: 'string', value });
const scales = (net: NetworkBuilder, ...values: number[]) => [net.constant('scales', new Tensor('float32', values))];

const CASES: Case[] = [
  { what: 'Squeeze with axes', opset: 11, op: 'Squeeze', attributes: { axes: ints(0) } },
  { what: 'Squeeze without axes', opset: 11, op: 'Squeeze' },
  { what: 'Unsqueeze', opset: 9, op: 'Unsqueeze', attributes: { axes: ints(0, 3) } },
  { what: 'ReduceSum', opset: 12, op: 'ReduceSum', attributes: { axes: ints(1), keepdims: int(0) } },
  { what: 'ReduceMean, which changed later', opset: 11, op: 'ReduceMean', attributes: { axes: ints(2, 3) } },
  { what: 'Clip with both bounds', opset: 7, op: 'Clip', attributes: { min: float(-0.5), max: float(0.25) } },
  { what: 'Clip with the upper bound', opset: 10, op: 'Clip', attributes: { max: float(0.25) } },
  {
    what: 'Pad with a value',
    opset: 8,
    op: 'Pad',
    attributes: { pads: ints(0, 0, 1, 2, 0, 0, 0, 1), value: float(0.5) },
  },
  {
    what: 'Pad, reflecting',
    opset: 10,
    op: 'Pad',
    attributes: { mode: mode('reflect'), pads: ints(0, 0, 1, 2, 0, 0, 0, 1) },
  },
  {
    what: 'Slice with axes',
    opset: 9,
    op: 'Slice',
    attributes: { starts: ints(1, -4), ends: ints(3, 9000), axes: ints(2, 3) },
  },
  { what: 'Slice without axes', opset: 7, op: 'Slice', attributes: { starts: ints(0, 1), ends: ints(1, 2) } },
  { what: 'Split with sizes', opset: 11, op: 'Split', attributes: { axis: int(3), split: ints(1, 5) }, outputs: 2 },
  { what: 'Split in equal parts', opset: 11, op: 'Split', attributes: { axis: int(3) }, outputs: 2 },
  { what: 'Split in equal parts', opset: 17, target: 21, op: 'Split', attributes: { axis: int(3) }, outputs: 2 },
  {
    what: 'ReduceMean with axes',
    opset: 17,
    target: 21,
    op: 'ReduceMean',
    attributes: { axes: ints(1, 3), keepdims: int(0) },
  },
  { what: 'ReduceL2 over everything', opset: 11, target: 21, op: 'ReduceL2' },
  { what: 'Dropout', opset: 10, op: 'Dropout', attributes: { ratio: float(0.3) } },
  { what: 'TopK', opset: 9, op: 'TopK', attributes: { k: int(2), axis: int(2) }, outputs: 1 },
  {
    what: 'Softmax with its default axis',
    opset: 11,
    op: 'Softmax',
    becomes: ['Flatten', 'Reshape', 'Shape', 'Softmax'],
  },
  { what: 'Softmax on the last axis', opset: 9, op: 'Softmax', attributes: { axis: int(3) } },
  { what: 'Softmax on the last axis, counted from the end', opset: 11, op: 'Softmax', attributes: { axis: int(-1) } },
  {
    what: 'Softmax on two axes',
    opset: 12,
    op: 'Softmax',
    attributes: { axis: int(-2) },
    becomes: ['Flatten', 'Reshape', 'Shape', 'Softmax'],
  },
  {
    what: 'Upsample with attributes',
    opset: 8,
    op: 'Upsample',
    attributes: { scales: floats(1, 1, 2, 3) },
    becomes: ['Resize'],
  },
  {
    what: 'Upsample, linear',
    opset: 9,
    op: 'Upsample',
    attributes: { mode: mode('linear') },
    inputs: (net) => scales(net, 1, 1, 2, 2),
    becomes: ['Resize'],
  },
  { what: 'Resize up', opset: 10, op: 'Resize', inputs: (net) => scales(net, 1, 1, 2, 1.5) },
  { what: 'Resize down', opset: 10, op: 'Resize', inputs: (net) => scales(net, 1, 1, 0.5, 0.5) },
  {
    what: 'BatchNormalization with spatial',
    opset: 8,
    op: 'BatchNormalization',
    attributes: { spatial: int(1) },
    inputs: (net) => ['s', 'b', 'm', 'v'].map((name) => net.constant(name, new Tensor('float32', [0.5, 1.5]))),
  },
];

function build({ opset, op, attributes, dims = IMAGE, inputs, outputs = 1 }: Case): Graph {
  const net = new NetworkBuilder(opset);
  const x = net.input('x', dims);
  const first = net.graph.newValue('y');
  const others = Array.from({ length: outputs - 1 }, (_, i) => net.graph.newValue(`y${i + 1}`));
  // TopK has a second output that cannot be left out.
  const hidden = op === 'TopK' ? [net.graph.newValue('indices')] : [];
  net.graph.addNode({
    name: 'node',
    op,
    inputs: [x, ...(inputs?.(net) ?? [])],
    outputs: [first, ...others, ...hidden],
    attributes,
  });
  for (const value of [first, ...others]) net.output(value);
  return net.graph;
}

async function runOrt(graph: Graph, x: Tensor<'float32'>): Promise<Record<string, Float32Array>> {
  const session = await ort.InferenceSession.create(writeModel(graphToProto(graph)), { logSeverityLevel: 4 });
  const results = await session.run({ x: new ort.Tensor('float32', x.data, x.dims) });
  await session.release();
  return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data as Float32Array]));
}

describe('upgradeOpset', () => {
  for (const test of CASES) {
    it(`${test.what}, from ${test.opset} to ${test.target ?? USUAL_OPSET}`, async () => {
      const x = randomTensor(test.dims ?? IMAGE, 5);
      const graph = build(test);
      const before = await runOrt(graph, x);
      upgradeOpset(graph, test.target);
      assert.equal(graph.opset(), test.target ?? USUAL_OPSET);
      const ops = [...graph.nodes].map(({ op }) => op).sort();
      assert.deepEqual(ops, test.becomes ?? [test.op]);
      assert.deepEqual(await runOrt(graph, x), before);
      if (test.op === 'TopK') return;
      for (const [name, tensor] of Object.entries(runGraph(graph, { x }))) {
        const data = tensor.data as Float32Array;
        assert.equal(data.length, before[name].length);
        for (const [i, v] of data.entries()) {
          assert.ok(Math.abs(v - before[name][i]) < 1e-5, `${name}[${i}]: ${v}, ${before[name][i]}`);
        }
      }
    });
  }

  it('aligns the old broadcast along an axis', () => {
    const net = new NetworkBuilder(6);
    const x = net.input('x', IMAGE);
    const bias = net.constant('bias', new Tensor('float32', [10, 20]));
    net.output(net.node('Add', 'y', [x, bias], { broadcast: int(1), axis: int(1) }));
    upgradeOpset(net.graph);
    const { y } = runGraph(net.graph, { x: Tensor.zeros('float32', IMAGE) });
    assert.deepEqual([...(y.data as Float32Array)], [...new Array(24).fill(10), ...new Array(24).fill(20)]);
  });

  it('infers ranks to keep Softmax simple where it can', () => {
    const net = new NetworkBuilder(11);
    const x = net.input('x', IMAGE);
    const rows = net.node('Reshape', 'rows', [x, net.constant('shape', new Tensor('int64', [8, 6]))]);
    net.output(net.node('Softmax', 'y', [rows], { axis: int(1) }));
    upgradeOpset(net.graph);
    assert.deepEqual(
      [...net.graph.nodes].map(({ op }) => op),
      ['Reshape', 'Softmax'],
    );
  });

  it('spells the sampling of opset 20', () => {
    const net = new NetworkBuilder(16);
    const [x, grid] = [net.input('x', IMAGE), net.input('grid', [1, 3, 3, 2])];
    net.output(net.node('GridSample', 'plain', [x, grid]));
    net.output(net.node('GridSample', 'cubic', [x, grid], { mode: mode('bicubic') }));
    net.output(net.node('GridSample', 'near', [x, grid], { mode: mode('nearest') }));
    upgradeOpset(net.graph, 21);
    assert.deepEqual(
      [...net.graph.nodes].map(({ attributes }) => attributes.string('mode')),
      ['linear', 'cubic', 'nearest'],
    );
  });

  it('reaches into subgraphs', () => {
    const net = new NetworkBuilder(11);
    const x = net.input('x', [1, 3]);
    const body = () => {
      const inner = new NetworkBuilder(11);
      inner.output(inner.node('Squeeze', 'inner', [x], { axes: ints(0) }));
      return inner.graph;
    };
    const [thenBranch, elseBranch] = [body(), body()];
    const condition = net.constant('condition', new Tensor('bool', [true], []));
    net.output(
      net.node('If', 'y', [condition], {
        then_branch: { kind: 'graph', value: thenBranch },
        else_branch: { kind: 'graph', value: elseBranch },
      }),
    );
    upgradeOpset(net.graph);
    for (const branch of [thenBranch, elseBranch]) {
      const [squeeze] = branch.nodes;
      assert.equal(squeeze.attributes.has('axes'), false);
      assert.deepEqual(squeeze.input(1)?.constant?.data, BigInt64Array.of(0n));
    }
  });

  it('leaves newer models and models without standard operators alone', () => {
    for (const opset of [USUAL_OPSET, NEWEST_TARGET, 24]) {
      const net = new NetworkBuilder(opset);
      net.output(net.node('Relu', 'y', [net.input('x', [1])]));
      upgradeOpset(net.graph);
      assert.equal(net.graph.opset(), opset);
    }
  });

  it('stops at the wanted opset', () => {
    const graph = build({ what: '', opset: 9, op: 'Clip', attributes: { max: float(1) } });
    upgradeOpset(graph, 13);
    assert.equal(graph.opset(), 13);
    assert.throws(() => upgradeOpset(graph, 12 + 20), { code: 'ERR_Q8_INVALID_ARGUMENT' });
  });

  it('refuses what newer opsets cannot say, and very old models', () => {
    const perElement = build({
      what: '',
      opset: 8,
      op: 'BatchNormalization',
      attributes: { spatial: int(0) },
      inputs: (net) => ['s', 'b', 'm', 'v'].map((name) => net.constant(name, new Tensor('float32', [0.5, 1.5]))),
    });
    assert.throws(() => upgradeOpset(perElement), { code: 'ERR_Q8_UNSUPPORTED_OP', node: 'node' });
    assert.throws(() => upgradeOpset(build({ what: '', opset: 5, op: 'Relu' })), /Expected opset 6 or newer/);
  });
});
