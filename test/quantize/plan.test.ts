/** Which nodes are quantized, which tensors share a scale, and why the rest stays in float. */
import assert from 'node:assert/strict';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { insertQdq } from '../../lib/quantize/insert-qdq';
import { type PlanOptions, planQuantization } from '../../lib/quantize/plan';
import { resolveRepresentation } from '../../lib/quantize/representation';
import { Tensor } from '../../lib/tensor/tensor';
import { int, ints, NetworkBuilder } from './networks';

function plan(net: NetworkBuilder, options: Partial<PlanOptions> = {}) {
  inferShapes(net.graph, lookupOp);
  const result = planQuantization(net.graph, {
    perChannel: true,
    refusal: () => undefined,
    traitOf: (node) => lookupOp(node)?.quant,
    ...options,
  });
  return {
    result,
    nodes: [...result.nodes.keys()].map(({ name }) => name),
    heads: Object.fromEntries([...result.activations].map(([value, head]) => [value.name, head.name])),
    observed: result.observed.map(({ name }) => name),
    reasons: Object.fromEntries(result.floatNodes.map(({ node, reason }) => [node.name, reason])),
  };
}

const IMAGE = [1, 4, 6, 6];

describe('planQuantization', () => {
  it('folds a clamp into its producer when nothing else reads what lies between', () => {
    const net = new NetworkBuilder();
    const conv = net.conv('conv', net.input('x', IMAGE), [4, 4, 1, 1]);
    net.output(net.node('Relu', 'relu', [conv]));
    assert.deepEqual(plan(net).heads, { x: 'x', relu: 'relu' });

    const fork = new NetworkBuilder();
    const shared = fork.conv('conv', fork.input('x', IMAGE), [4, 4, 1, 1]);
    fork.output(fork.node('Relu', 'relu', [shared]));
    fork.output(shared);
    assert.deepEqual(plan(fork).heads, { x: 'x', conv: 'conv', relu: 'relu' });
  });

  it('shares scales along moves, in both directions', () => {
    const net = new NetworkBuilder();
    const turned = net.node('Transpose', 'turned', [net.input('x', [1, 6, 6, 4])], { perm: ints(0, 3, 1, 2) });
    const conv = net.conv('conv', turned, [4, 4, 1, 1]);
    const pool = net.node('MaxPool', 'pool', [conv], { kernel_shape: ints(2, 2) });
    net.output(net.node('Flatten', 'flat', [pool]));
    const { heads, observed, nodes } = plan(net);
    assert.deepEqual(heads, { turned: 'x', x: 'x', conv: 'conv', pool: 'conv', flat: 'conv' });
    assert.deepEqual(observed.sort(), ['conv', 'x']);
    assert.deepEqual(nodes, ['turned', 'conv', 'pool', 'flat']);
  });

  it('leaves alone what has no quantized neighbour', () => {
    const net = new NetworkBuilder();
    const x = net.input('x', IMAGE);
    const mean = net.constant('mean', new Tensor('float32', [0.5], []));
    const sum = net.node('Add', 'normalized', [x, mean]);
    const moved = net.node('Transpose', 'moved', [sum], { perm: ints(0, 1, 3, 2) });
    net.output(moved);
    const { nodes, reasons } = plan(net);
    assert.deepEqual(nodes, []);
    assert.deepEqual(Object.keys(reasons), ['normalized', 'moved']);
    assert.match(reasons.normalized, /none of its inputs/);
  });

  it('names the reason for every float node', () => {
    const net = new NetworkBuilder();
    const x = net.input('x', IMAGE);
    const bias = net.input('bias', [4]);
    net.output(net.node('Conv', 'moving_bias', [x, net.weight('w', [4, 4, 1, 1]), bias]));
    net.output(net.node('Conv', 'moving_weight', [x, net.input('weight', [4, 4, 1, 1])]));
    net.output(net.node('Round', 'rounded', [x]));
    net.output(net.conv('excluded', x, [4, 4, 1, 1]));
    const { reasons } = plan(net, { refusal: ({ name }) => (name === 'excluded' ? 'no' : undefined) });
    assert.deepEqual(reasons, {
      moving_bias: 'its bias is not constant',
      moving_weight: 'its weight is not constant',
      rounded: 'q8 does not quantize Round',
      excluded: 'no',
    });
  });

  it('keeps what a subgraph reads in float', () => {
    const net = new NetworkBuilder();
    const conv = net.conv('conv', net.input('x', IMAGE), [4, 4, 1, 1]);
    const body = () => {
      const inner = new NetworkBuilder();
      inner.output(inner.node('Relu', 'inner', [conv]));
      return { kind: 'graph' as const, value: inner.graph };
    };
    const condition = net.constant('condition', new Tensor('bool', [true], []));
    net.output(net.node('If', 'choice', [condition], { then_branch: body(), else_branch: body() }));
    assert.equal(plan(net).reasons.conv, 'a subgraph reads its output');
  });

  it('quantizes a product of two activations, and a weight on either side', () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [4, 4]);
    net.output(net.node('MatMul', 'square', [x, x]));
    net.output(net.node('MatMul', 'left', [net.weight('w', [4, 4]), x]));
    const { result, nodes } = plan(net);
    assert.deepEqual(nodes, ['square', 'left']);
    const [square, left] = result.nodes.values();
    assert.deepEqual(
      [...square.inputs.values()].map(({ kind }) => kind),
      ['activation', 'activation'],
    );
    assert.deepEqual(
      [...left.inputs.values()].map(({ kind }) => kind),
      ['constant', 'activation'],
    );
  });

  it('asks for one scale per channel only where told', () => {
    for (const perChannel of [true, false]) {
      const net = new NetworkBuilder();
      net.output(net.node('Gemm', 'y', [net.input('x', [2, 4]), net.weight('w', [3, 4])], { transB: int(1) }));
      const [node] = plan(net, { perChannel }).result.nodes.values();
      assert.deepEqual(node.inputs.get(1), {
        kind: 'weight',
        axis: perChannel ? 0 : undefined,
        outputAxis: 0,
        sumAxis: 1,
      });
    }
  });
});

describe('insertQdq', () => {
  const options = resolveRepresentation({ perChannel: true });

  function insert(net: NetworkBuilder) {
    const { result } = plan(net);
    const ranges = new Map(result.observed.map((value) => [value, { min: -1, max: 1 }]));
    return insertQdq(net.graph, result, ranges, options);
  }

  it('names things as onnxruntime does', () => {
    const net = new NetworkBuilder();
    net.output(net.conv('y', net.input('x', IMAGE), [4, 4, 1, 1]));
    insert(net);
    const names = [...net.graph.nodes].map(({ name }) => name).sort();
    assert.deepEqual(names, [
      'x_DequantizeLinear',
      'x_QuantizeLinear',
      'y',
      'y_DequantizeLinear',
      'y_QuantizeLinear',
      'y_b_DequantizeLinear',
      'y_w_DequantizeLinear',
    ]);
    const constants = net.graph.constants().map(({ name }) => name);
    for (const name of [
      'x_scale',
      'x_zero_point',
      'y_w_quantized',
      'y_w_scale',
      'y_w_zero_point',
      'y_b_quantized',
      'y_b_quantized_scale',
    ]) {
      assert.ok(constants.includes(name), name);
    }
    const [output] = net.graph.outputs;
    assert.equal(output.name, 'y');
    assert.equal(output.producer?.op, 'DequantizeLinear');
  });

  it('keeps tied weights one tensor, and gives each user of a bias its own', () => {
    const net = new NetworkBuilder();
    const x = net.input('x', IMAGE);
    const weight = net.weight('w', [4, 4, 1, 1]);
    const bias = net.weight('b', [4]);
    const first = net.node('Conv', 'first', [x, weight, bias]);
    net.output(net.node('Conv', 'second', [first, weight, bias]));
    insert(net);
    const int8 = net.graph.constants().filter(({ constant }) => constant?.type === 'int8' && constant.size === 16);
    const int32 = net.graph.constants().filter(({ constant }) => constant?.type === 'int32' && constant.size === 4);
    assert.equal(int8.length, 1);
    // Codes and zero points of both.
    assert.equal(int32.length, 4);
  });

  it('lets float readers of a float value keep it', () => {
    const net = new NetworkBuilder();
    const x = net.input('x', IMAGE);
    net.output(net.conv('y', x, [4, 4, 1, 1]));
    net.output(net.node('Round', 'rounded', [x]));
    insert(net);
    const rounded = [...net.graph.nodes].find(({ op }) => op === 'Round')!;
    assert.equal(rounded.input(0), x);
  });

  it('takes seconds for 20 000 nodes', function () {
    this.timeout(20000);
    const net = new NetworkBuilder();
    let x = net.conv('stem', net.input('x', IMAGE), [4, 4, 1, 1]);
    const first = x;
    for (let i = 0; i < 10000; i++) {
      x = net.node('Add', `add${i}`, [x, first]);
      x = net.node('Reshape', `move${i}`, [x, net.constant(`shape${i}`, new Tensor('int64', IMAGE))]);
    }
    net.output(x);
    const start = performance.now();
    insert(net);
    assert.ok(performance.now() - start < 8000, `${performance.now() - start} ms`);
    assert.ok(net.graph.nodes.size > 60000);
  });
});
