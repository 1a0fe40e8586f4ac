/** Which nodes are quantized, which tensors share a scale, and why the rest stays in float. */
import assert from 'node:assert/strict';
import type { Value } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp, quantTraitOf } from '../../lib/ops/registry';
import { fuseQdq } from '../../lib/passes/fuse-qdq';
import { insertQdq } from '../../lib/quantize/insert-qdq';
import { type PlanOptions, planQuantization } from '../../lib/quantize/plan';
import { resolveRepresentation } from '../../lib/quantize/representation';
import { Tensor } from '../../lib/tensor/tensor';
import { int, ints, NetworkBuilder } from './networks';

function plan(net: NetworkBuilder, options: Partial<PlanOptions> = {}) {
  inferShapes(net.graph, lookupOp);
  const result = planQuantization(net.graph, {
    perChannel: true,
    operators: 'integer',
    shareScales: 'free',
    refusal: () => undefined,
    traitOf: quantTraitOf,
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

  it('lets operands that nothing else reads take the scale of what is put together', () => {
    const build = () => {
      const net = new NetworkBuilder();
      const x = net.conv('stem', net.input('x', IMAGE), [4, 4, 1, 1]);
      const only = net.node('MaxPool', 'only', [net.conv('left', x, [4, 4, 1, 1])], { kernel_shape: ints(1, 1) });
      const both = net.node('Concat', 'both', [only, x], { axis: int(1) });
      net.output(net.node('AveragePool', 'average', [both], { kernel_shape: ints(2, 2) }));
      return net;
    };
    assert.deepEqual(plan(build()).heads, {
      x: 'x',
      stem: 'stem',
      left: 'both',
      only: 'both',
      both: 'both',
      average: 'average',
    });
    const never = plan(build(), { shareScales: 'never' });
    assert.deepEqual(never.heads, {
      x: 'x',
      stem: 'stem',
      left: 'left',
      only: 'left',
      both: 'both',
      average: 'average',
    });
    const always = plan(build(), { shareScales: 'always' });
    assert.deepEqual(always.heads, { x: 'x', stem: 'both', left: 'both', only: 'both', both: 'both', average: 'both' });
    assert.deepEqual(always.observed.sort(), ['both', 'left', 'stem', 'x']);
  });

  it('compares codes only on one scale', () => {
    for (const shared of [false, true]) {
      const net = new NetworkBuilder();
      const [a, b] = ['a', 'b'].map((name) =>
        net.conv(name, net.graph.inputs[0] ?? net.input('x', IMAGE), [4, 4, 1, 1]),
      );
      net.output(net.node('Max', 'larger', [a, b]));
      if (shared) net.output(net.node('Round', 'rounded', [a]));
      assert.equal(plan(net).reasons.larger, shared ? 'its inputs have scales of their own' : undefined);
    }
  });

  it('keeps masks out of the codes', () => {
    const build = (mask: (net: NetworkBuilder) => Value, op: string) => {
      const net = new NetworkBuilder();
      const scores = net.conv('scores', net.input('x', IMAGE), [4, 4, 1, 1]);
      net.output(net.node('Softmax', 'weights', [net.node(op, 'masked', [scores, mask(net)])]));
      return plan(net).reasons.masked;
    };
    assert.match(
      build((net) => net.constant('m', new Tensor('float32', [0, 0, 0, 0, 0, -1e9])), 'Add'),
      /masks values/,
    );
    assert.match(
      build((net) => net.node('Round', 'm', [net.input('mask', [6])]), 'Add'),
      /masks values/,
    );
    assert.equal(
      build((net) => net.constant('m', new Tensor('float32', [0, 1, 2, 3, 4, 5])), 'Add'),
      undefined,
    );
  });

  it('stores the weights of what every CPU computes in float, and quantizes it only when asked to', () => {
    const build = () => {
      const net = new NetworkBuilder();
      const x = net.conv('stem', net.input('x', IMAGE), [4, 4, 1, 1]);
      const up = net.node('ConvTranspose', 'up', [x, net.weight('w', [4, 2, 3, 3]), net.weight('b', [2])]);
      net.output(net.node('InstanceNormalization', 'norm', [up, net.weight('s', [2]), net.weight('t', [2])]));
      return net;
    };
    const { result, reasons } = plan(build());
    const [, up] = result.nodes.values();
    assert.deepEqual([...up.inputs], [[1, { kind: 'weight', axis: 1 }]]);
    assert.equal(reasons.norm, 'no CPU runtime has a form of it on codes');
    const all = plan(build(), { operators: 'all' });
    assert.deepEqual(all.nodes, ['stem', 'up', 'norm']);
    assert.deepEqual(Object.keys(all.heads), ['x', 'stem', 'up', 'norm']);
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

  it('stores a weight once, for float readers too, unless they were excluded', () => {
    for (const excluded of [false, true]) {
      const net = new NetworkBuilder();
      const weight = net.weight('w', [4, 4]);
      const y = net.node('MatMul', 'y', [net.input('x', [4, 4]), weight]);
      net.output(
        net.node('Add', 'sum', [y, net.node('Mod', 'float', [net.graph.inputs[0], weight], { fmod: int(1) })]),
      );
      const refusal = ({ name }: { name: string }) => (excluded && name === 'float' ? 'no' : undefined);
      const { result } = plan(net, { refusal });
      insertQdq(net.graph, result, new Map(result.observed.map((value) => [value, { min: -1, max: 1 }])), options);
      const reader = [...net.graph.nodes].find(({ name }) => name === 'float')!;
      assert.equal(reader.input(1)?.producer?.op, excluded ? undefined : 'DequantizeLinear');
      const floats = net.graph
        .constants()
        .filter(({ constant }) => constant?.type === 'float32' && constant.size === 16);
      assert.equal(floats.length, excluded ? 1 : 0);
    }
  });

  it('gathers codes from a table, with scales per column', () => {
    const net = new NetworkBuilder();
    const index = net.graph.newValue('index', { dtype: 'int64', shape: [2, 3] });
    net.graph.inputs.push(index);
    net.output(net.node('Gather', 'rows', [net.weight('table', [10, 4]), index]));
    insert(net);
    const [output] = net.graph.outputs;
    const { producer } = output;
    assert.equal(producer?.op, 'DequantizeLinear');
    assert.equal(producer?.attributes.int('axis', 1), -1);
    assert.equal(producer?.input(1)?.constant?.size, 4);
    assert.equal(producer?.input(0)?.producer?.op, 'Gather');
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

  it('takes time in proportion to the nodes', function () {
    this.timeout(60000);
    /** Sums and moves, concatenations of what goes before, a weight and a constant that all share. */
    const chain = (blocks: number): NetworkBuilder => {
      const net = new NetworkBuilder();
      let x = net.conv('stem', net.input('x', [1, 4, 1, 1]), [4, 4, 1, 1]);
      const [first, weight] = [x, net.weight('w', [4, 8, 1, 1])];
      const shape = net.constant('shape', new Tensor('int64', [1, 4, 1, 1]));
      for (let i = 0; i < blocks; i++) {
        const sum = net.node('Add', `add${i}`, [x, first]);
        const moved = net.node('Reshape', `move${i}`, [sum, shape]);
        const both = net.node('Concat', `both${i}`, [moved, moved], { axis: int(1) });
        x = net.node('Conv', `conv${i}`, [both, weight]);
      }
      net.output(x);
      return net;
    };
    const seconds = (blocks: number): number => {
      const net = chain(blocks);
      const start = process.cpuUsage();
      insert(net);
      fuseQdq(net.graph);
      const { user, system } = process.cpuUsage(start);
      assert.ok([...net.graph.nodes].filter(({ op }) => op === 'QLinearConv').length > blocks);
      return (user + system) / 1e6;
    };
    seconds(250);
    const short = seconds(1250);
    // Four times the nodes; a quadratic pass would take sixteen times as long.
    const long = seconds(5000);
    assert.ok(long < 9 * short, `20 000 nodes take ${long} s, 5 000 take ${short} s`);
  });
});
