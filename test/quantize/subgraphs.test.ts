/**
 * Quantization inside bodies of control flow: branches that share weights with each other and with the model, a loop that
 * carries a state, and a branch inside the loop. Judges are onnxruntime-node and the float model.
 */
import assert from 'node:assert/strict';
import type { AttributeInit } from '../../lib/graph/attributes';
import { graphsOf, nodesOf } from '../../lib/graph/bodies';
import { Graph, type Node, type Value } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import { InferenceSession } from '../../lib/index';
import { explain } from '../../lib/quantize/explain';
import { quantize, type QuantizeOptions, type QuantizeResult } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, runOrt, runSession } from './judges';
import { float, int, NetworkBuilder, randomTensor } from './networks';
import { readGraph } from './run-graph';

const WIDTH = 32;

/** Adds nodes to a graph, each named like its output. */
function inGraph(graph: Graph) {
  return (op: string, name: string, inputs: (Value | null)[], attributes: AttributeInit = {}): Value => {
    const output = graph.newValue(name);
    graph.addNode({ name, op, inputs, outputs: [output], attributes });
    return output;
  };
}

function bodyOf(parent: Graph, name: string, make: (add: ReturnType<typeof inGraph>, body: Graph) => Value[]): Graph {
  const body = new Graph(name, { parent });
  body.outputs.push(...make(inGraph(body), body));
  for (const value of body.outputs) value.type ??= { dtype: 'float32' };
  return body;
}

/** A layer, one of two branches by the sign of the mean, and a last layer whose weight both branches use as well. */
function branches(): Uint8Array {
  const net = new NetworkBuilder(17);
  const x = net.input('x', ['N', WIDTH]);
  const tied = net.weight('tied', [WIDTH, WIDTH], 0.3);
  const own = net.weight('own', [WIDTH, WIDTH], 0.3);
  const stem = net.node('Relu', 'stem', [
    net.node('MatMul', 'stem_product', [x, net.weight('w0', [WIDTH, WIDTH], 0.3)]),
  ]);
  const mean = net.node('ReduceMean', 'mean', [x], { keepdims: int(0) });
  const condition = net.node('Greater', 'condition', [mean, net.constant('zero', new Tensor('float32', [0], []))]);
  const yes = bodyOf(net.graph, 'yes', (add) => [add('Relu', 'y', [add('MatMul', 'product', [stem, tied])])]);
  const no = bodyOf(net.graph, 'no', (add) => [
    add('MatMul', 'y', [add('Relu', 'inner', [add('MatMul', 'product', [stem, own])]), tied]),
  ]);
  const result = net.node('If', 'branch', [condition], {
    then_branch: { kind: 'graph', value: yes },
    else_branch: { kind: 'graph', value: no },
  });
  result.type = { dtype: 'float32', shape: ['N', WIDTH] };
  net.output(net.node('MatMul', 'last', [result, tied]));
  return net.bytes();
}

/** A loop whose state goes through a small residual block; after the first round a branch inside adds another product. */
function decoder(): Uint8Array {
  const net = new NetworkBuilder(17);
  const x = net.input('x', [1, WIDTH]);
  const steps = net.input('steps', []);
  steps.type = { dtype: 'int64', shape: [] };
  const [w1, w2, head] = [
    net.weight('w1', [WIDTH, 2 * WIDTH], 0.25),
    net.weight('w2', [2 * WIDTH, WIDTH], 0.15),
    net.weight('head', [WIDTH, 12], 0.3),
  ];
  const [scale, bias] = [net.constant('g', randomTensor([WIDTH], 9)), net.weight('b', [WIDTH], 0.1)];
  const zero = net.constant('zero', new Tensor('int64', BigInt64Array.of(0n), []));
  const body = bodyOf(net.graph, 'body', (add, graph) => {
    const round = graph.newValue('round', { dtype: 'int64', shape: [] });
    const go = graph.newValue('go', { dtype: 'bool', shape: [] });
    const state = graph.newValue('state', { dtype: 'float32', shape: [1, WIDTH] });
    graph.inputs.push(round, go, state);
    const normal = add('LayerNormalization', 'normal', [state, scale, bias], { axis: int(-1), epsilon: float(1e-5) });
    const hidden = add('Relu', 'hidden', [add('MatMul', 'wide', [normal, w1])]);
    const residual = add('Add', 'residual', [add('MatMul', 'narrow', [hidden, w2]), state]);
    const later = add('Greater', 'later', [round, zero]);
    const more = bodyOf(graph, 'more', (inner) => [
      inner('MatMul', 'more_y', [residual, net.weight('w3', [WIDTH, WIDTH], 0.2)]),
    ]);
    const same = bodyOf(graph, 'same', (inner) => [inner('Identity', 'same_y', [residual])]);
    const next = add('If', 'next', [later], {
      then_branch: { kind: 'graph', value: more },
      else_branch: { kind: 'graph', value: same },
    });
    next.type = { dtype: 'float32', shape: [1, WIDTH] };
    const goes = add('Identity', 'goes', [go]);
    goes.type = { dtype: 'bool', shape: [] };
    return [goes, next, add('MatMul', 'logits', [next, head])];
  });
  const last = net.graph.newValue('last', { dtype: 'float32', shape: [1, WIDTH] });
  const all = net.graph.newValue('all', { dtype: 'float32' });
  net.graph.addNode({
    name: 'loop',
    op: 'Loop',
    inputs: [steps, null, x],
    outputs: [last, all],
    attributes: { body: { kind: 'graph', value: body } },
  });
  net.output(all);
  net.output(last);
  return net.bytes();
}

const BRANCHES = branches();
const DECODER = decoder();
/** Both signs of the mean occur. */
const BRANCH_FEEDS = Array.from({ length: 8 }, (_, i) => {
  const { data, dims } = randomTensor([3, WIDTH], 100 + i);
  return {
    x: new Tensor(
      'float32',
      data.map((v) => v + (i % 2 === 0 ? 0.2 : -0.2)),
      dims,
    ),
  };
});
const DECODER_FEEDS = Array.from({ length: 6 }, (_, i) => ({
  x: randomTensor([1, WIDTH], 200 + i),
  steps: new Tensor('int64', BigInt64Array.of(BigInt(1 + i)), []),
}));

const MODELS = [
  { name: 'branches', model: BRANCHES, feeds: BRANCH_FEEDS },
  { name: 'a loop with a branch', model: DECODER, feeds: DECODER_FEEDS },
] as const;

function opsIn(model: Uint8Array): string[] {
  return [...nodesOf(readGraph(model))].map(({ op }: Node) => op);
}

/** Least signal to noise of the quantized model beside the float one, and beside onnxruntime on the same file. */
async function judge(
  model: Uint8Array,
  quantized: Uint8Array,
  feeds: readonly Record<string, Tensor>[],
  options = EXACT,
) {
  let [quality, agreement] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (const feed of feeds) {
    const own = await runSession(quantized, feed);
    quality = Math.min(quality, sqnr(await runSession(model, feed), own));
    agreement = Math.min(agreement, sqnr(await runOrt(quantized, feed, options), own));
  }
  return { quality, agreement };
}

describe('quantize: bodies of control flow', () => {
  for (const { name, model, feeds } of MODELS) {
    const cases: [string, QuantizeOptions, RegExp, number][] = [
      ['static, integer operators', { mode: 'static', calibration: feeds }, /^QLinearMatMul$/, 20],
      ['static, pairs', { mode: 'static', calibration: feeds, format: 'qdq' }, /^QuantizeLinear$/, 20],
      [
        'static, int8',
        { mode: 'static', calibration: feeds, activationType: 'int8', engine: 'q8' },
        /^QLinearMatMul$/,
        20,
      ],
      [
        'static, percentile',
        { mode: 'static', calibration: feeds, calibrationMethod: 'percentile' },
        /^QLinearMatMul$/,
        18,
      ],
      ['dynamic', { mode: 'dynamic', reduceRange: true }, /^MatMulInteger$/, 25],
      ['weights of 8 bits', { mode: 'weightOnly', bits: 8 }, /^MatMulNBits$/, 35],
      ['weights of 4 bits', { mode: 'weightOnly', bits: 4 }, /^MatMulNBits$/, 12],
      ['weights of 8 bits, pairs', { mode: 'weightOnly', bits: 8, format: 'qdq' }, /^DequantizeLinear$/, 35],
    ];
    for (const [title, options, op, least] of cases) {
      it(`${name}: ${title}`, async () => {
        const { model: quantized, report } = await quantize(model, { ...options, verify: true } as QuantizeOptions);
        assert.deepEqual(
          report.floatNodes.filter(({ op: type }) => type === 'MatMul'),
          [],
        );
        assert.equal(report.quantizedNodes.MatMul, name === 'branches' ? 5 : 4);
        for (const graph of graphsOf(readGraph(quantized))) {
          const products = [...graph.nodes].filter(({ op: type }) => /MatMul/.test(type));
          if (products.length > 0)
            assert.ok(
              [...graph.nodes].some((node) => op.test(node.op)),
              graph.name,
            );
        }
        const { quality, agreement } = await judge(
          model,
          quantized,
          feeds,
          'activationType' in options ? ({} as typeof EXACT) : EXACT,
        );
        assert.ok(quality > least, `${quality} dB`);
        // With all its optimizations onnxruntime quantizes activations of products behind pairs of weights, too.
        const isCoarse = 'format' in options && options.mode === 'weightOnly';
        assert.ok(agreement > (isCoarse ? 35 : 50), `${agreement} dB beside onnxruntime`);
      });
    }
  }

  it('writes a weight that several graphs share once', async () => {
    for (const options of [{ mode: 'dynamic' }, { mode: 'weightOnly', bits: 8 }] as const) {
      const { model, report } = await quantize(BRANCHES, options);
      const graph = readGraph(model);
      const codes = graph.constants().filter(({ constant }) => constant!.size >= WIDTH * WIDTH);
      assert.equal(codes.length, 3);
      assert.equal(report.tensors.length, 3);
      assert.ok(model.length < 0.6 * BRANCHES.length, `${model.length} of ${BRANCHES.length} bytes`);
    }
  });

  it('runs bodies on codes here: no float product is left', async () => {
    const { model } = await quantize(DECODER, { mode: 'static', calibration: DECODER_FEEDS, format: 'qdq' });
    const session = await InferenceSession.create(model);
    const [feed] = DECODER_FEEDS;
    const results = await session.run(feed);
    assert.deepEqual(results.all.dims, [1, 1, 12]);
    const later = DECODER_FEEDS[2];
    await session.run(later);
    const inside = session.nodes.filter(({ op }) => /MatMul/.test(op));
    assert.deepEqual(
      inside.map(({ op, road }) => [op, road]),
      new Array(4).fill(['QLinearMatMul', 'native']),
    );
    await session.release();
    const { model: integer } = await quantize(DECODER, { mode: 'static', calibration: DECODER_FEEDS });
    assert.deepEqual(await runSession(model, feed), await runSession(integer, feed), 'pairs and operators are one');
    assert.ok(!opsIn(integer).includes('MatMul'));
  });

  it('leaves a body in float that no sample reaches, and says so', async () => {
    const positive = BRANCH_FEEDS.filter((_, i) => i % 2 === 0);
    const { model, report, ranges } = await quantize(BRANCHES, { mode: 'static', calibration: positive });
    assert.deepEqual(
      report.floatNodes.filter(({ op }) => op === 'MatMul').map(({ reason }) => reason),
      ['its body did not run on any sample', 'its body did not run on any sample'],
    );
    assert.equal(report.quantizedNodes.MatMul, 3);
    await runOrt(model, BRANCH_FEEDS[1]);
    const again = await quantize(BRANCHES, { mode: 'static', ranges });
    assert.deepEqual(again.model, model, 'ranges hold those of bodies');
  });

  it('leaves bodies in float when q8 cannot run the model, and says so', async () => {
    const graph = readGraph(BRANCHES);
    const [x] = graph.inputs;
    const strange = graph.newValue('strange', { dtype: 'float32', shape: ['N', WIDTH] });
    // onnxruntime knows the operator.
    graph.addNode({ name: 'strange', op: 'Hardmax', inputs: [x], outputs: [strange] });
    graph.outputs.push(strange);
    const { report } = await quantize(writeModel(graphToProto(graph)), { mode: 'static', calibration: BRANCH_FEEDS });
    assert.equal(report.quantizedNodes.MatMul, 2);
    assert.match(report.floatNodes.map(({ reason }) => reason).join(), /q8 looks into bodies by running .*Hardmax/);
  });

  it('selects nodes in bodies by name, type and region, and leaves bodies alone when told so', async () => {
    const count = async (options: object): Promise<number> => {
      const { report }: QuantizeResult = await quantize(BRANCHES, { mode: 'dynamic', ...options });
      return report.quantizedNodes.MatMul ?? 0;
    };
    assert.equal(await count({ include: 'product' }), 1);
    assert.equal(await count({ include: 'product*' }), 2);
    assert.equal(await count({ exclude: { opType: 'MatMul' } }), 0);
    assert.equal(await count({ include: { from: 'stem', to: 'branch' } }), 3);
    const { report } = await quantize(BRANCHES, { mode: 'dynamic', subgraphs: false });
    assert.equal(report.quantizedNodes.MatMul, 2);
    assert.match(report.floatNodes.map(({ reason }) => reason).join(), /subgraphs is false/);
    await assert.rejects(quantize(BRANCHES, { mode: 'dynamic', include: 'produkt' }), {
      hint: 'did you mean "product"?',
    });
  });

  it('takes overrides of tensors in bodies', async () => {
    const options = { mode: 'static', calibration: BRANCH_FEEDS, format: 'qdq' } as const;
    const { report } = await quantize(BRANCHES, { ...options, overrides: { inner: { range: [0, 10] } } });
    const inner = report.tensors.find(({ name }) => name === 'inner');
    assert.deepEqual(inner?.scale, [Math.fround(10 / 255)]);
  });

  it('explains what it would do in bodies', async () => {
    const plan = await explain(DECODER, { mode: 'static' });
    assert.deepEqual(
      plan.nodes?.filter(({ op }) => op === 'MatMul').map(({ name }) => name),
      ['wide', 'narrow', 'logits', 'more_y'],
    );
    assert.ok(plan.calibrated?.includes('hidden'));
  });

  it('fuses the pairs of trained models in bodies', async () => {
    const { model } = await quantize(DECODER, { mode: 'static', calibration: DECODER_FEEDS, format: 'qdq' });
    const { model: integer, report } = await quantize(model, { mode: 'qat' });
    assert.equal(report.quantizedNodes.MatMul, 4);
    assert.equal(opsIn(integer).filter((op) => op === 'QLinearMatMul').length, 4);
    const [, feed] = DECODER_FEEDS;
    assert.deepEqual(await runSession(integer, feed), await runSession(model, feed));
  });
});
