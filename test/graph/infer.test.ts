import assert from 'node:assert/strict';
import { Q8Error } from '../../lib/errors';
import type { AttributeInit } from '../../lib/graph/attributes';
import { type Dim, Graph, isUnknownDim, type Node, Value, type ValueType } from '../../lib/graph/graph';
import { inferShapes, inferTypes } from '../../lib/graph/infer';
import type { InferContext, OpDefinition } from '../../lib/ops/define-op';
import { Tensor } from '../../lib/tensor/tensor';

const VECTOR: ValueType = { dtype: 'int64', shape: ['?'] };

function op(type: string, inferShape: (context: InferContext) => ValueType[], run?: OpDefinition['run']): OpDefinition {
  return { type, domain: '', since: [1], inferShape, run: run ?? (() => assert.fail(`${type} was run`)) };
}

function int64(values: number[], dims = [values.length]): Tensor {
  return new Tensor('int64', values, dims);
}

/** Operators reduced to what these tests need of them. */
const OPS = new Map(
  [
    op('Relu', (c) => [c.input(0)]),
    op('Flatten', (c) => [{ dtype: c.input(0).dtype, shape: [c.unknownDim(), c.unknownDim()] }]),
    op('Shape', (c) => [{ dtype: 'int64', shape: [c.input(0).shape?.length ?? c.unknownDim()] }]),
    op('Gather', (c) => [{ dtype: 'int64', shape: c.input(1).shape }]),
    op('Slice', (c) => [{ dtype: 'int64', shape: [c.unknownDim()] }]),
    op('Concat', (c) => [{ dtype: 'int64', shape: [c.unknownDim()] }]),
    op('Unsqueeze', (c) => [{ dtype: 'int64', shape: [c.unknownDim(), ...(c.input(0).shape ?? [])] }]),
    op(
      'Mul',
      (c) => [c.input(0)],
      ([a, b]) => [
        new Tensor(
          'int64',
          (a!.data as BigInt64Array).map((x, i) => x * (b!.data as BigInt64Array)[i]),
          a!.dims,
        ),
      ],
    ),
    op('Reshape', (c) => {
      const target = c.constant(1);
      const shape = target ? Array.from(target.data as BigInt64Array, Number) : undefined;
      return [{ dtype: c.input(0).dtype, shape }];
    }),
    op('Broken', () => {
      throw new Q8Error('ERR_Q8_SHAPE_MISMATCH', 'Nothing fits.');
    }),
    op('Buggy', () => {
      throw new TypeError('undefined is not a function');
    }),
    op('If', (c) => c.inferSubgraph(c.node.attributes.graph('then_branch')!, [])),
  ].map((definition): [string, OpDefinition] => [definition.type, definition]),
);

const lookup = (node: Node) => OPS.get(node.op);

function model(shape: readonly Dim[] | undefined = ['N', 3, 8, 8]): { graph: Graph; x: Value } {
  const graph = new Graph('g', { opsets: new Map([['', 17]]) });
  const x = new Value('x', { dtype: 'float32', shape });
  graph.inputs.push(x);
  return { graph, x };
}

function add(
  graph: Graph,
  op: string,
  inputs: (Value | null)[],
  options: { hint?: ValueType; attributes?: AttributeInit } = {},
): Value {
  const value = graph.newValue(op, options.hint);
  graph.addNode({ name: '', op, inputs, outputs: [value], attributes: options.attributes });
  return value;
}

function constant(graph: Graph, values: number[], dims?: number[]): Value {
  return graph.newConstant('c', int64(values, dims));
}

describe('inferShapes', () => {
  it('carries symbolic sizes by name and writes the types', () => {
    const { graph, x } = model();
    const y = add(graph, 'Relu', [add(graph, 'Relu', [x])]);
    inferShapes(graph, lookup);
    assert.deepEqual(y.type, { dtype: 'float32', shape: ['N', 3, 8, 8] });
  });

  it('leaves the graph alone as inferTypes, and takes the shapes of one run', () => {
    const { graph, x } = model();
    const y = add(graph, 'Relu', [x]);
    const inference = inferTypes(graph, lookup, {
      inputTypes: new Map([[x, { dtype: 'float32', shape: [2, 3, 8, 8] }]]),
    });
    assert.deepEqual(inference.typeOf(y)?.shape, [2, 3, 8, 8]);
    assert.equal(y.type, undefined);
  });

  it('fills gaps from the declared type, and prefers the inferred one', () => {
    const { graph, x } = model();
    const gaps = add(graph, 'Flatten', [x], { hint: { dtype: 'float32', shape: ['N', 192] } });
    const conflict = add(graph, 'Relu', [x], { hint: { dtype: 'int8', shape: [1, 3, 9, 9] } });
    const rank = add(graph, 'Relu', [x], { hint: { dtype: 'float32', shape: [7] } });
    const none = add(graph, 'Reshape', [x, x], { hint: { dtype: 'float32', shape: [4] } });
    inferShapes(graph, lookup);
    assert.deepEqual(gaps.type?.shape, ['N', 192]);
    assert.deepEqual(conflict.type, { dtype: 'float32', shape: ['N', 3, 8, 8] });
    assert.deepEqual(rank.type?.shape, ['N', 3, 8, 8]);
    assert.deepEqual(none.type?.shape, [4]);
  });

  it('does not trust declared sizes when a run overrides a fixed one', () => {
    const { graph, x } = model([1, 3, 8, 8]);
    const y = add(graph, 'Flatten', [x], { hint: { dtype: 'float32', shape: [1, 192] } });
    const inputTypes = new Map<Value, ValueType>([[x, { dtype: 'float32', shape: [2, 3, 8, 8] }]]);
    assert.ok(inferTypes(graph, lookup, { inputTypes }).typeOf(y)?.shape?.every(isUnknownDim));
  });

  it('asks only new nodes when told so, and those whose types are open', () => {
    const asked: string[] = [];
    const { graph, x } = model();
    const first = add(graph, 'Relu', [x]);
    inferShapes(graph, lookup);
    const second = add(graph, 'Relu', [first]);
    const third = add(graph, 'Relu', [second]);
    const noting = (node: Node) => {
      asked.push(node.name);
      return lookup(node);
    };
    inferShapes(graph, noting, { onlyNew: true });
    assert.deepEqual(asked, [second.producer!.name, third.producer!.name]);
    assert.deepEqual(third.type, { dtype: 'float32', shape: ['N', 3, 8, 8] });
  });

  it('reports nodes that it cannot resolve, and goes on with declared types', () => {
    const { graph, x } = model();
    const hinted = add(graph, 'Custom', [x], { hint: { dtype: 'float32', shape: [5] } });
    const after = add(graph, 'Relu', [hinted]);
    const unknown = add(graph, 'Relu', [add(graph, 'Custom', [x])]);
    const { unresolved } = inferShapes(graph, lookup);
    assert.deepEqual(after.type?.shape, [5]);
    assert.equal(unknown.type, undefined);
    assert.deepEqual(
      [...unresolved].map((node) => node.op),
      ['Custom', 'Custom', 'Relu'],
    );
  });

  it('computes reshape targets from shapes', () => {
    const { graph, x } = model([2, 3, 8, 8]);
    const shape = add(graph, 'Shape', [x]);
    const batch = add(graph, 'Slice', [shape, constant(graph, [0]), constant(graph, [1])]);
    const rest = add(graph, 'Slice', [shape, constant(graph, [-2]), constant(graph, [99])]);
    const doubled = add(graph, 'Mul', [rest, constant(graph, [2, 2])]);
    const target = add(graph, 'Concat', [batch, constant(graph, [-1]), doubled], { hint: VECTOR });
    const y = add(graph, 'Reshape', [x, target]);
    const inference = inferShapes(graph, lookup);
    assert.deepEqual(inference.constantOf(target), int64([2, -1, 16, 16]));
    assert.deepEqual(y.type?.shape, [2, -1, 16, 16]);
    assert.equal(target.constant, undefined, 'the graph keeps its nodes');
  });

  it('finds the numbers in a shape that is partly symbolic', () => {
    const { graph, x } = model(['N', 3, 'H', 8]);
    const shape = add(graph, 'Shape', [x]);
    const channels = add(graph, 'Gather', [shape, constant(graph, [1], [])]);
    const batch = add(graph, 'Gather', [shape, constant(graph, [0], [])]);
    const joined = add(graph, 'Concat', [add(graph, 'Unsqueeze', [channels]), add(graph, 'Unsqueeze', [batch])]);
    const again = add(graph, 'Gather', [joined, constant(graph, [0, 0])]);
    const tail = add(graph, 'Shape', [x], { attributes: { start: { kind: 'int', value: -1 } } });
    const inference = inferShapes(graph, lookup);
    assert.deepEqual(inference.constantOf(channels), int64([3], []));
    assert.equal(inference.constantOf(batch), undefined);
    assert.equal(inference.constantOf(joined), undefined);
    assert.deepEqual(inference.constantOf(again), int64([3, 3]));
    assert.deepEqual(inference.constantOf(tail), int64([8]));
  });

  it('goes on from types and data that are known beforehand, at any node', () => {
    const { graph, x } = model(undefined);
    const target = add(graph, 'Custom', [x]);
    const y = add(graph, 'Reshape', [x, target]);
    const order = [...graph.nodes].slice(1);
    const constants = new Map([[target, int64([4, 5])]]);
    const inference = inferTypes(graph, lookup, { order, constants });
    assert.deepEqual(inference.typeOf(y)?.shape, [4, 5]);
    assert.deepEqual(inference.typeOf(target), { dtype: 'int64', shape: [2] });
  });

  it('does not compute large constants', () => {
    const { graph } = model();
    const many = constant(graph, new Array(1025).fill(1));
    const product = add(graph, 'Mul', [many, many]);
    assert.equal(inferShapes(graph, lookup).constantOf(product), undefined);
  });

  it('names the node in every error', () => {
    for (const [op, code] of [
      ['Broken', 'ERR_Q8_SHAPE_MISMATCH'],
      ['Buggy', 'ERR_Q8_INTERNAL'],
    ]) {
      const { graph, x } = model();
      graph.addNode({ name: 'layer1', op, inputs: [x], outputs: [graph.newValue('y')] });
      assert.throws(() => inferShapes(graph, lookup), { code, node: 'layer1', message: /layer1/ });
    }
    const { graph } = model();
    graph.addNode({ name: 'lonely', op: 'Relu', inputs: [], outputs: [graph.newValue('y')] });
    assert.throws(() => inferShapes(graph, lookup), { code: 'ERR_Q8_BAD_MODEL', node: 'lonely' });
  });

  it('goes into bodies, which see the values around them', () => {
    const { graph, x } = model();
    const y = add(graph, 'Relu', [x]);
    const body = new Graph('then', { parent: graph });
    const inner = add(body, 'Relu', [y]);
    body.outputs.push(inner);
    const out = add(graph, 'If', [], { attributes: { then_branch: { kind: 'graph', value: body } } });
    inferShapes(graph, lookup);
    assert.deepEqual(out.type?.shape, ['N', 3, 8, 8]);
    assert.deepEqual(inner.type?.shape, ['N', 3, 8, 8]);
  });

  it('never takes two unknown sizes for one', () => {
    const { graph, x } = model();
    const [a, b] = add(graph, 'Flatten', [x]) && inferShapes(graph, lookup).typeOf([...graph.nodes][0].output)!.shape!;
    assert.ok(isUnknownDim(a) && isUnknownDim(b));
    assert.notEqual(a, b);
  });

  it('is linear: a chain of 20 000 nodes takes no time', () => {
    const { graph, x } = model();
    let value = x;
    for (let i = 0; i < 20_000; i++) value = add(graph, 'Relu', [value]);
    inferShapes(graph, lookup);
    assert.deepEqual(value.type?.shape, ['N', 3, 8, 8]);
  });
});
