import assert from 'node:assert/strict';
import { Graph, Value } from '../../lib/graph/graph';

describe('Graph.topologicalOrder', () => {
  it('keeps insertion order where that is an execution order', () => {
    const graph = new Graph();
    const x = new Value('x');
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => new Value(name));
    const first = graph.addNode({ name: 'first', op: 'Relu', inputs: [x], outputs: [a] });
    const second = graph.addNode({ name: 'second', op: 'Relu', inputs: [a], outputs: [b] });
    const other = graph.addNode({ name: 'other', op: 'Relu', inputs: [x], outputs: [c] });
    const last = graph.addNode({ name: 'last', op: 'Add', inputs: [c, b], outputs: [d] });
    assert.deepEqual(graph.topologicalOrder(), [first, second, other, last]);
  });

  it('moves producers forward, and only them', () => {
    const graph = new Graph();
    const [x, a, b, c] = ['x', 'a', 'b', 'c'].map((name) => new Value(name));
    const late = graph.addNode({ name: 'late', op: 'Add', inputs: [b, a], outputs: [c] });
    const first = graph.addNode({ name: 'first', op: 'Relu', inputs: [x], outputs: [a] });
    const second = graph.addNode({ name: 'second', op: 'Relu', inputs: [a], outputs: [b] });
    assert.deepEqual(graph.topologicalOrder(), [first, second, late]);
  });

  it('follows edits', () => {
    const graph = new Graph();
    const [x, a, b] = ['x', 'a', 'b'].map((name) => new Value(name));
    const first = graph.addNode({ name: 'first', op: 'Relu', inputs: [x], outputs: [a] });
    const second = graph.addNode({ name: 'second', op: 'Relu', inputs: [x], outputs: [b] });
    assert.deepEqual(graph.topologicalOrder(), [first, second]);
    assert.equal(graph.topologicalOrder(), graph.topologicalOrder(), 'computed once');
    first.setInput(0, b);
    assert.deepEqual(graph.topologicalOrder(), [second, first]);
    const third = graph.addNode({ name: 'third', op: 'Relu', inputs: [x], outputs: [new Value('c')] });
    assert.deepEqual(graph.topologicalOrder(), [second, first, third]);
    graph.removeNode(second);
    assert.deepEqual(graph.topologicalOrder(), [first, third]);
  });

  it('orders a chain of 100 000 nodes given backwards, without recursion', () => {
    const graph = new Graph();
    const values = Array.from({ length: 100_001 }, (_, i) => new Value(`v${i}`));
    for (let i = 100_000; i > 0; i--) {
      graph.addNode({ name: `n${i}`, op: 'Relu', inputs: [values[i - 1]], outputs: [values[i]] });
    }
    assert.deepEqual(
      graph.topologicalOrder().every((node, i) => node.name === `n${i + 1}`),
      true,
    );
  }).timeout(10_000);

  it('names a node of a cycle, also when it reads itself', () => {
    for (const length of [1, 3]) {
      const graph = new Graph();
      const values = Array.from({ length }, (_, i) => new Value(`v${i}`));
      for (let i = 0; i < length; i++) {
        graph.addNode({ name: `n${i}`, op: 'Relu', inputs: [values[i]], outputs: [values[(i + 1) % length]] });
      }
      assert.throws(() => graph.topologicalOrder(), { code: 'ERR_Q8_BAD_MODEL', node: /^n\d$/ });
    }
  });
});

describe('Graph.uniqueName', () => {
  it('never gives a name twice, nor one of the graph around', () => {
    const outer = new Graph();
    outer.reserve('a');
    const inner = new Graph('body', { parent: outer });
    inner.reserve('a_2');
    assert.deepEqual(
      [1, 2, 3].map(() => inner.uniqueName('a')),
      ['a_1', 'a_3', 'a_4'],
    );
  });

  it('stays fast for many nodes of one base name', () => {
    const graph = new Graph();
    for (let i = 0; i < 50_000; i++) graph.uniqueName('Conv');
    assert.equal(graph.uniqueName('Conv'), 'Conv_50000');
  });
});
