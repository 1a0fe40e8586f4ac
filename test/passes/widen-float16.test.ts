import assert from 'node:assert/strict';
import { Graph, Value, type ValueType } from '../../lib/graph/graph';
import { fromDoubles, toDoubles } from '../../lib/ops/families/values';
import { widenFloat16 } from '../../lib/passes/widen-float16';
import { interpret } from '../../lib/runtime/interpret';
import { Tensor } from '../../lib/tensor/tensor';

const HALF: ValueType = { dtype: 'float16', shape: [3] };
const half = (...values: number[]): Tensor => fromDoubles('float16', Float64Array.from(values), [values.length]);

/** y = x + c; the same x goes out untouched, and z = Cast(n) to float16. */
function model() {
  const graph = new Graph('half', { opsets: new Map([['', 17]]) });
  const [x, n] = [graph.newValue('x', HALF), graph.newValue('n', { dtype: 'int32', shape: [3] })];
  graph.inputs.push(x, n);
  const y = graph.newValue('y', HALF);
  graph.addNode({ name: 'add', op: 'Add', inputs: [x, graph.newConstant('c', half(1, 2, 3))], outputs: [y] });
  const z = graph.newValue('z', HALF);
  graph.addNode({
    name: 'cast',
    op: 'Cast',
    inputs: [n],
    outputs: [z],
    attributes: { to: { kind: 'int', value: 10 } },
  });
  graph.outputs.push(y, z, x);
  return graph;
}

describe('passes: widenFloat16', () => {
  it('computes in float32 between inputs and outputs of float16', () => {
    const graph = model();
    const feeds = { x: half(0.5, -1, 8), n: new Tensor('int32', [1, -2, 3]) };
    const before = interpret(graph.clone(), feeds);
    assert.equal(widenFloat16(graph), true);
    const after = interpret(graph, feeds);
    assert.deepEqual(Object.keys(after), ['y', 'z', 'x']);
    for (const name of Object.keys(before)) {
      assert.equal(after[name].type, 'float16');
      assert.deepEqual([...toDoubles(after[name])], [...toDoubles(before[name])]);
    }
    const add = [...graph.nodes].find(({ op }) => op === 'Add')!;
    assert.deepEqual(
      add.inputs.map((value) => value?.constant?.type ?? value?.type?.dtype),
      ['float32', 'float32'],
    );
    assert.deepEqual(
      graph.inputs.map(({ name, type }) => [name, type?.dtype]),
      [
        ['x', 'float16'],
        ['n', 'int32'],
      ],
    );
    assert.equal(widenFloat16(graph), true, 'casts to float16 remain');
    assert.deepEqual(interpret(graph, feeds).y.data, after.y.data, 'once more changes nothing');
  });

  it('goes into bodies', () => {
    const graph = new Graph('outer', { opsets: new Map([['', 17]]) });
    const [x, c] = [graph.newValue('x', HALF), graph.newValue('c', { dtype: 'bool', shape: [] })];
    graph.inputs.push(x, c);
    const branch = (name: string, op: string): Graph => {
      const body = new Graph(name, { parent: graph });
      const y = body.newValue(`${name}_y`, HALF);
      body.addNode({ name, op, inputs: [x], outputs: [y] });
      body.outputs.push(y);
      return body;
    };
    const through = new Graph('through', { parent: graph });
    through.outputs.push(x);
    const y = graph.newValue('y', HALF);
    graph.addNode({
      name: 'if',
      op: 'If',
      inputs: [c],
      outputs: [y],
      attributes: {
        then_branch: { kind: 'graph', value: branch('neg', 'Neg') },
        else_branch: { kind: 'graph', value: through },
      },
    });
    graph.outputs.push(y);
    widenFloat16(graph);
    for (const [flag, expected] of [
      [1, [-1, 2, -3]],
      [0, [1, -2, 3]],
    ] as const) {
      const feeds = { x: half(1, -2, 3), c: new Tensor('bool', Uint8Array.of(flag), []) };
      const result = interpret(graph, feeds).y;
      assert.equal(result.type, 'float16');
      assert.deepEqual([...toDoubles(result)], [...expected]);
    }
  });

  it('leaves models alone that have nothing of it, or operators that nobody here knows', () => {
    const plain = new Graph('plain', { opsets: new Map([['', 17]]) });
    const x = plain.newValue('x', { dtype: 'float32', shape: [1] });
    plain.inputs.push(x);
    plain.addNode({ name: 'relu', op: 'Relu', inputs: [x], outputs: [new Value('y')] });
    assert.equal(widenFloat16(plain), false);
    const strange = model();
    strange.addNode({
      name: 'odd',
      op: 'Odd',
      domain: 'com.odd',
      inputs: [strange.inputs[0]],
      outputs: [new Value('o')],
    });
    assert.equal(widenFloat16(strange), false);
    assert.equal(strange.nodes.size, 3);
  });
});
