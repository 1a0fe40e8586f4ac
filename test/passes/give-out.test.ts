/** Copies of graphs that give out tensors inside, and how many of them at a time. */
import assert from 'node:assert/strict';
import { batchesOf, givingOut } from '../../lib/passes/give-out';
import { InferenceSession } from '../../lib/runtime/session';
import { Tensor } from '../../lib/tensor/tensor';
import { NetworkBuilder } from '../quantize/networks';
import { readGraph } from '../quantize/run-graph';

/** y = sigmoid(-relu(x)). */
function chain() {
  const net = new NetworkBuilder();
  const relu = net.node('Relu', 'relu', [net.input('x', ['N', 4])]);
  net.output(net.node('Sigmoid', 'y', [net.node('Neg', 'negative', [relu])]));
  return readGraph(net.bytes());
}

describe('givingOut', () => {
  it('gives out inputs, inner tensors and renamed ones, in order, and leaves the graph as it was', async () => {
    const graph = chain();
    const [x] = graph.inputs;
    const [relu, negative] = [...graph.nodes].map((node) => node.output);
    const copy = givingOut(graph, [
      { name: 'seen', value: negative },
      { name: 'relu', value: relu },
      { name: 'in', value: x },
    ]);
    assert.equal(copy.nodes.size, 4);
    const session = InferenceSession.fromGraph(copy);
    const results = await session.run({ x: new Tensor('float32', [-1, 2, 0, 3], [1, 4]) });
    session.dispose();
    assert.deepEqual(session.outputNames, ['seen', 'relu', 'in']);
    assert.deepEqual([...(results.relu.data as Float32Array)], [0, 2, 0, 3]);
    assert.deepEqual([...(results.in.data as Float32Array)], [-1, 2, 0, 3]);
    assert.deepEqual((results.seen.data as Float32Array)[1], -2);
    assert.deepEqual(
      graph.outputs.map(({ name }) => name),
      ['y'],
    );
    assert.deepEqual(
      [...graph.nodes].map(({ op }) => op),
      ['Relu', 'Neg', 'Sigmoid'],
    );
  });

  it('dequantizes codes', async () => {
    const net = new NetworkBuilder();
    const scale = net.constant('scale', new Tensor('float32', [0.5], []));
    const zero = net.constant('zero', new Tensor('uint8', [10], []));
    const codes = net.node('QuantizeLinear', 'codes', [net.input('x', [2]), scale, zero]);
    net.output(net.node('DequantizeLinear', 'y', [codes, scale, zero]));
    const graph = readGraph(net.bytes());
    const value = [...graph.nodes][0].output;
    const [scaleValue, zeroPoint] = [...graph.nodes][0].inputs.slice(1) as [typeof value, typeof value];
    const copy = givingOut(graph, [{ name: 'real', value, params: { scale: scaleValue, zeroPoint, axis: undefined } }]);
    const session = InferenceSession.fromGraph(copy);
    const { real } = await session.run({ x: new Tensor('float32', [1.3, -100], [2]) });
    session.dispose();
    assert.deepEqual([...(real.data as Float32Array)], [1.5, -5]);
  });
});

describe('batchesOf', () => {
  it('cuts where tensors of a sample would not fit together', () => {
    const graph = chain();
    const values = [...graph.nodes].map((node) => node.output);
    const names = (rows: number, copies?: number) => {
      // Only the shape counts.
      const x = { type: 'float32', dims: [rows, 4] } as unknown as Tensor;
      return batchesOf(graph, values, (value) => value, { x }, copies).map((batch) => batch.map(({ name }) => name));
    };
    assert.deepEqual(names(1), [['relu', 'negative', 'y']]);
    assert.deepEqual(names(2 ** 23), [['relu', 'negative'], ['y']]);
    assert.deepEqual(names(2 ** 23, 3), [['relu'], ['negative'], ['y']]);
    assert.deepEqual(names(2 ** 26), [['relu'], ['negative'], ['y']]);
  });
});
