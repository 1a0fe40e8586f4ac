import assert from 'node:assert/strict';
import { Graph, type Value, type ValueType } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { Tensor } from '../../lib/tensor/tensor';
import { evaluate } from './evaluate';

const VECTOR: ValueType = { dtype: 'float32', shape: [2] };
const BOOL: ValueType = { dtype: 'bool', shape: [] };
const INT: ValueType = { dtype: 'int64', shape: [] };

function input(graph: Graph, name: string, type: ValueType): Value {
  const value = graph.newValue(name, type);
  graph.inputs.push(value);
  return value;
}

function apply(graph: Graph, op: string, inputs: Value[]): Value {
  return graph.addNode({ name: '', op, inputs, outputs: [graph.newValue(`${op}_out`)] }).output;
}

describe('operators: control flow', () => {
  const outer = new Graph('outer', { opsets: new Map([['', 17]]) });
  const x = input(outer, 'x', VECTOR);
  const flag = input(outer, 'flag', BOOL);
  const body = (op: string): Graph => {
    const graph = new Graph(op, { parent: outer });
    graph.outputs.push(apply(graph, op, [x, x]));
    return graph;
  };
  const { output } = outer.addNode({
    name: 'if',
    op: 'If',
    inputs: [flag],
    outputs: [outer.newValue('y')],
    attributes: {
      then_branch: { kind: 'graph', value: body('Add') },
      else_branch: { kind: 'graph', value: body('Mul') },
    },
  });
  outer.outputs.push(output);

  it('If runs one branch, with captured values', () => {
    const data = new Tensor('float32', [3, 4]);
    assert.deepEqual([...(evaluate(outer, [data, new Tensor('bool', [true], [])])[0].data as Float32Array)], [6, 8]);
    assert.deepEqual([...(evaluate(outer, [data, new Tensor('bool', [false], [])])[0].data as Float32Array)], [9, 16]);
    inferShapes(outer, lookupOp);
    assert.deepEqual(output.type, VECTOR);
  });

  /** state = state + state, scanned, for at most `count` rounds and while the first element of the state is below 20. */
  function loop(): { graph: Graph; last: Value; scan: Value } {
    const graph = new Graph('loop', { opsets: new Map([['', 17]]) });
    const count = input(graph, 'count', INT);
    const start = input(graph, 'start', { dtype: 'float32', shape: [1] });
    const inner = new Graph('body', { parent: graph });
    input(inner, 'i', INT);
    input(inner, 'go', BOOL);
    const state = input(inner, 'state', { dtype: 'float32', shape: [1] });
    const doubled = apply(inner, 'Add', [state, state]);
    inner.outputs.push(
      apply(inner, 'Less', [doubled, inner.newConstant('limit', new Tensor('float32', [20]))]),
      doubled,
      doubled,
    );
    const node = graph.addNode({
      name: 'loop',
      op: 'Loop',
      inputs: [count, null, start],
      outputs: [graph.newValue('last'), graph.newValue('scan')],
      attributes: { body: { kind: 'graph', value: inner } },
    });
    const [last, scan] = node.outputs as Value[];
    graph.outputs.push(last, scan);
    return { graph, last, scan };
  }

  it('Loop carries state, stops by count or condition, and stacks scan outputs', () => {
    const { graph, last, scan } = loop();
    const run = (count: number): Tensor[] =>
      evaluate(graph, [new Tensor('int64', [count], []), new Tensor('float32', [3])]);
    assert.deepEqual([...(run(2)[0].data as Float32Array)], [12]);
    assert.deepEqual([...(run(100)[1].data as Float32Array)], [6, 12, 24]);
    assert.deepEqual([...run(100)[1].dims], [3, 1]);
    inferShapes(graph, lookupOp);
    assert.deepEqual(last.type, { dtype: 'float32', shape: [1] });
    assert.equal(scan.type?.shape?.length, 2);
    assert.deepEqual([...(run(0)[0].data as Float32Array)], [3]);
    assert.deepEqual([...run(0)[1].dims], [0, 1]);
  });
});
