import assert from 'node:assert/strict';
import { graphsOf, inEveryGraph, isolated, moveOut, nodesOf } from '../../lib/graph/bodies';
import { Graph, Value } from '../../lib/graph/graph';
import { Tensor } from '../../lib/tensor/tensor';

/** outer: y = Relu(x); If whose body reads y and a constant that the outer graph reads too, with a body of its own in it. */
function nested() {
  const graph = new Graph('outer');
  const [x, y, c] = [new Value('x'), new Value('y', { dtype: 'float32' }), new Value('c')];
  c.constant = new Tensor('float32', [1]);
  graph.inputs.push(x);
  graph.addNode({ name: 'relu', op: 'Relu', inputs: [x], outputs: [y] });
  graph.addNode({ name: 'shift', op: 'Add', inputs: [y, c], outputs: [graph.newValue('z')] });
  const body = new Graph('body', { parent: graph });
  const inside = new Value('inside');
  body.addNode({ name: 'add', op: 'Add', inputs: [y, c], outputs: [inside] });
  const inner = new Graph('inner', { parent: body });
  const deep = new Value('deep');
  inner.addNode({ name: 'deep', op: 'Mul', inputs: [y, inside], outputs: [deep] });
  inner.outputs.push(deep);
  body.addNode({
    name: 'nested',
    op: 'If',
    inputs: [x],
    outputs: [new Value('made')],
    attributes: { then_branch: { kind: 'graph', value: inner } },
  });
  body.outputs.push(inside, y);
  const branch = graph.addNode({
    name: 'branch',
    op: 'If',
    inputs: [x],
    outputs: [new Value('result')],
    attributes: { then_branch: { kind: 'graph', value: body } },
  });
  return { graph, body, inner, branch, x, y, c, inside };
}

describe('bodies of control flow', () => {
  it('are listed outer ones first, with their nodes', () => {
    const { graph, body, inner } = nested();
    assert.deepEqual([...graphsOf(graph)], [graph, body, inner]);
    const names = [...nodesOf(graph)].map(({ name }) => name);
    assert.deepEqual(names, ['relu', 'shift', 'branch', 'add', 'nested', 'deep']);
  });

  it('read nothing from around them while they are edited, and everything again afterwards', () => {
    const { graph, body, inner, branch, x, y, c, inside } = nested();
    isolated(body, () => {
      assert.deepEqual(
        body.inputs.map(({ name }) => name),
        ['y', 'x'],
      );
      const [add] = body.nodes;
      assert.notEqual(add.input(0), y);
      assert.equal(add.input(0)?.producer, null);
      assert.deepEqual(add.input(0)?.type, y.type);
      assert.equal(add.input(1)?.constant, c.constant);
      assert.notEqual(add.input(1), c);
      assert.equal([...inner.nodes][0].input(0), add.input(0));
      assert.equal(body.outputs[1], add.input(0));
      assert.deepEqual(
        y.consumers.map(({ name }) => name),
        ['shift'],
      );
      assert.deepEqual([...graph.capturedBy(branch)], []);
      body.addNode({ name: 'new', op: 'Neg', inputs: [add.input(0)], outputs: [body.newValue('negative')] });
    });
    assert.deepEqual(body.inputs, []);
    assert.deepEqual(body.outputs, [inside, y]);
    const [add, , added] = body.nodes;
    assert.deepEqual([...add.inputs, added.input(0)], [y, c, y]);
    assert.equal([...inner.nodes][0].input(0), y);
    assert.deepEqual([...graph.capturedBy(branch)], [y, x]);
  });

  it('are given back when the edit throws', () => {
    const { body, y } = nested();
    assert.throws(() =>
      isolated(body, () => {
        throw new Error('no');
      }),
    );
    assert.equal([...body.nodes][0].input(0), y);
    assert.deepEqual(body.inputs, []);
  });

  it('are edited one by one, those inside as well', () => {
    const { graph, body, inner } = nested();
    const seen: Graph[] = [];
    inEveryGraph(graph, (each) => seen.push(each));
    assert.deepEqual(seen, [graph, body, inner]);
  });

  it('give away nodes that read nothing of theirs, each as far as it can go, and one of several alike', () => {
    const { graph, body, inner, y, inside } = nested();
    const [deep, last] = [new Value('quantized'), new Value('local')];
    inner.addNode({ name: 'far', op: 'Quantize', inputs: [y], outputs: [deep] });
    inner.addNode({ name: 'reader', op: 'Relu', inputs: [deep], outputs: [new Value('read')] });
    inner.addNode({ name: 'near', op: 'Quantize', inputs: [inside], outputs: [last] });
    const outer = new Value('outer');
    graph.addNode({ name: 'first', op: 'Quantize', inputs: [y], outputs: [outer] });
    moveOut(graph, ({ op }) => op === 'Quantize');
    const namesIn = (each: Graph): string[] => [...each.nodes].map(({ name }) => name);
    assert.deepEqual(namesIn(graph), ['relu', 'shift', 'branch', 'first']);
    assert.deepEqual(namesIn(body), ['add', 'nested', 'near']);
    assert.deepEqual(namesIn(inner), ['deep', 'reader']);
    assert.equal([...inner.nodes][1].input(0), outer);
  });
});
