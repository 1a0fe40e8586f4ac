/** What dynamic quantization writes becomes one operator per product, with the same bits. */
import assert from 'node:assert/strict';
import { lowerForRuntime } from '../../lib/passes';
import { quantize } from '../../lib/quantize';
import { interpret } from '../../lib/runtime/interpret';
import { InferenceSession } from '../../lib/runtime/session';
import { opCounts } from '../quantize/judges';
import { int, ints, NetworkBuilder, randomTensor } from '../quantize/networks';
import { readGraph } from '../quantize/run-graph';

async function check(net: NetworkBuilder, dims: number[], expected: Record<string, number>): Promise<void> {
  const { model } = await quantize(net.bytes(), { mode: 'dynamic' });
  const feed = { x: randomTensor(dims, 3, 2) };
  const graph = readGraph(model);
  const before = interpret(graph, feed);
  lowerForRuntime(graph);
  const counts = opCounts(graph);
  for (const [op, count] of Object.entries(expected)) assert.equal(counts[op] ?? 0, count, op);
  const after = interpret(graph, feed);
  const session = await InferenceSession.create(model);
  const native = await session.run(feed);
  for (const name of Object.keys(before)) {
    assert.deepEqual(after[name].data, before[name].data, 'the same bits in TypeScript');
    assert.deepEqual([...native[name].dims], [...before[name].dims]);
    assert.deepEqual(native[name].data, before[name].data, 'the same bits natively');
  }
  await session.release();
}

describe('passes: fuseIntegerProducts', () => {
  it('MatMul of rank 3 with bias, and products that share an activation', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [2, 7, 33]);
    const dense = (name: string, bias: number[]) =>
      net.node('Add', `${name}_sum`, [
        net.node('MatMul', name, [x, net.weight(`${name}_w`, [33, 19])]),
        net.weight(`${name}_b`, bias),
      ]);
    for (const bias of [[19], [1, 1, 19]]) net.output(dense(`d${bias.length}`, bias));
    // Not a row: added afterwards.
    net.output(dense('full', [7, 19]));
    net.output(net.node('MatMul', 'plain', [x, net.weight('w', [33, 5])]));
    await check(net, [2, 7, 33], { DynamicQuantizeLinear: 1, MatMulIntegerToFloat: 4, Add: 1, Cast: 0, Mul: 0 });
  });

  it('convolutions of every kind', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [2, 6, 9, 11]);
    net.output(net.conv('window', x, [5, 6, 3, 3], { pads: ints(1, 0, 2, 1), strides: ints(2, 1) }));
    net.output(net.conv('pointwise', x, [8, 6, 1, 1]));
    net.output(net.conv('depthwise', x, [6, 1, 3, 3], { group: int(6), pads: ints(1, 1, 1, 1) }));
    net.output(net.conv('grouped', x, [4, 3, 3, 3], { group: int(2), dilations: ints(2, 1), pads: ints(2, 2, 2, 2) }));
    net.output(net.node('Conv', 'bare', [x, net.weight('bare_w', [3, 6, 3, 3])], { pads: ints(1, 1, 1, 1) }));
    await check(net, [2, 6, 9, 11], { ConvIntegerToFloat: 5, ConvInteger: 0, Add: 0, DynamicQuantizeLinear: 1 });
  });

  it('leaves a product alone that somebody else reads', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [3, 16]);
    net.output(net.node('MatMul', 'y', [x, net.weight('w', [16, 4])]));
    const { model } = await quantize(net.bytes(), { mode: 'dynamic' });
    const graph = readGraph(model);
    const sums = [...graph.nodes].find(({ op }) => op === 'MatMulInteger')!.output;
    graph.outputs.push(sums);
    lowerForRuntime(graph);
    assert.equal(opCounts(graph).MatMulInteger, 1);
  });
});
