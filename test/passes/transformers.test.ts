/**
 * Transformers as torch exports them: attention, Gelu and normalized sums become operators of com.microsoft with the same
 * results, in q8 and in onnxruntime, and dynamic quantization reaches QAttention.
 */
import assert from 'node:assert/strict';
import type { Graph, Value } from '../../lib/graph/graph';
import { graphToProto } from '../../lib/graph/to-proto';
import { writeModel } from '../../lib/onnx/write';
import { fuseTransformers, prepare } from '../../lib/passes';
import { quantize } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { interpret } from '../../lib/runtime/interpret';
import { Tensor } from '../../lib/tensor/tensor';
import { EXACT, type Feed, opCounts, runOrt, runOwn, runSession } from '../quantize/judges';
import { float, int, ints, NetworkBuilder, randomTensor } from '../quantize/networks';
import { readGraph } from '../quantize/run-graph';

type Style = 'bert' | 'distilbert' | 'vit' | 'sdpa';
const [HEADS, SIZE, WIDTH, INNER] = [4, 8, 32, 64];

/** Builds encoders in the words of one exporter. */
class Encoder extends NetworkBuilder {
  readonly style: Style;

  constructor(style: Style) {
    super(17);
    this.style = style;
  }

  scalar(name: string, value: number): Value {
    return this.constant(name, new Tensor('float32', [value], []));
  }

  dense(name: string, x: Value, from: number, to: number): Value {
    const product = this.node('MatMul', `${name}_MatMul`, [x, this.weight(`${name}_w`, [from, to], 0.4)]);
    return this.node('Add', name, [this.weight(`${name}_b`, [to], 0.2), product]);
  }

  /** [batch, length, heads, size] by constants, or by sizes that are computed as older exporters do. */
  split(name: string, x: Value): Value {
    if (this.style === 'vit') return this.reshape(name, x, [0, 0, HEADS, SIZE]);
    const shape = this.node('Shape', `${name}_shape`, [x]);
    const parts = [0, 1].map((i) => {
      const at = this.constant(`${name}_i${i}`, new Tensor('int64', [i], []));
      const dim = this.node('Gather', `${name}_dim${i}`, [shape, at], { axis: int(0) });
      return this.node('Unsqueeze', `${name}_dims${i}`, [
        dim,
        this.constant(`${name}_axes${i}`, new Tensor('int64', [0])),
      ]);
    });
    const last = [HEADS, SIZE].map((n) => this.constant(`${name}_${n}`, new Tensor('int64', [n])));
    const dims = this.node('Concat', `${name}_dims`, [...parts, ...last], { axis: int(0) });
    return this.node('Reshape', `${name}_split`, [x, dims]);
  }

  reshape(name: string, x: Value, dims: number[]): Value {
    return this.node('Reshape', `${name}_reshaped`, [x, this.constant(`${name}_shape`, new Tensor('int64', dims))]);
  }

  attention(name: string, x: Value, mask: Value | null): Value {
    const heads = (part: string, perm: number[]): Value => {
      const split = this.split(`${name}_${part}`, this.dense(`${name}_${part}`, x, WIDTH, WIDTH));
      return this.node('Transpose', `${name}_${part}_heads`, [split], { perm: ints(...perm) });
    };
    let q = heads('query', [0, 2, 1, 3]);
    let k = heads('key', this.style === 'distilbert' ? [0, 2, 1, 3] : [0, 2, 3, 1]);
    if (this.style === 'distilbert') {
      q = this.node('Div', `${name}_scaled`, [q, this.scalar(`${name}_root`, Math.sqrt(SIZE))]);
      k = this.node('Transpose', `${name}_key_turned`, [k], { perm: ints(0, 1, 3, 2) });
    } else if (this.style === 'sdpa') {
      [q, k] = [q, k].map((v, i) =>
        this.node('Mul', `${name}_part${i}`, [v, this.scalar(`${name}_f${i}`, SIZE ** -0.25)]),
      );
    }
    let scores = this.node('MatMul', `${name}_scores`, [q, k]);
    if (this.style === 'bert')
      scores = this.node('Div', `${name}_scaled`, [scores, this.scalar(`${name}_root`, Math.sqrt(SIZE))]);
    if (this.style === 'vit')
      scores = this.node('Mul', `${name}_scaled`, [scores, this.scalar(`${name}_factor`, SIZE ** -0.5)]);
    if (mask && this.style === 'distilbert') {
      const shape = this.node('Shape', `${name}_scores_shape`, [scores]);
      const expanded = this.node('Expand', `${name}_mask`, [mask, shape]);
      scores = this.node('Where', `${name}_masked`, [
        expanded,
        this.scalar(`${name}_lowest`, -3.4028234663852886e38),
        scores,
      ]);
    } else if (mask) scores = this.node('Add', `${name}_masked`, [scores, mask]);
    const weights = this.node('Softmax', `${name}_weights`, [scores], { axis: int(-1) });
    const mixed = this.node('MatMul', `${name}_mixed`, [weights, heads('value', [0, 2, 1, 3])]);
    const back = this.node('Transpose', `${name}_back`, [mixed], { perm: ints(0, 2, 1, 3) });
    return this.dense(`${name}_output`, this.reshape(`${name}_merged`, back, [0, 0, WIDTH]), WIDTH, WIDTH);
  }

  gelu(name: string, x: Value): Value {
    const half = (v: Value): Value => this.node('Mul', `${name}_half`, [v, this.scalar(`${name}_0.5`, 0.5)]);
    const one = this.scalar(`${name}_1`, 1);
    if (this.style === 'sdpa') {
      const cube = this.node('Pow', `${name}_cube`, [x, this.scalar(`${name}_3`, 3)]);
      const small = this.node('Mul', `${name}_small`, [cube, this.scalar(`${name}_c`, 0.044715)]);
      const sum = this.node('Add', `${name}_sum`, [x, small]);
      const scaled = this.node('Mul', `${name}_scaled`, [sum, this.scalar(`${name}_r`, Math.sqrt(2 / Math.PI))]);
      const plus = this.node('Add', `${name}_plus`, [this.node('Tanh', `${name}_tanh`, [scaled]), one]);
      return this.node('Mul', name, [half(x), plus]);
    }
    const scaled =
      this.style === 'vit'
        ? this.node('Mul', `${name}_scaled`, [x, this.scalar(`${name}_r`, Math.SQRT1_2)])
        : this.node('Div', `${name}_scaled`, [x, this.scalar(`${name}_r`, Math.SQRT2)]);
    const plus = this.node('Add', `${name}_plus`, [this.node('Erf', `${name}_erf`, [scaled]), one]);
    if (this.style === 'bert') return half(this.node('Mul', `${name}_product`, [x, plus]));
    return this.node('Mul', name, [x, half(plus)]);
  }

  norm(name: string, x: Value): Value {
    return this.node(
      'LayerNormalization',
      name,
      [x, this.weight(`${name}_g`, [WIDTH]), this.weight(`${name}_beta`, [WIDTH])],
      {
        axis: int(-1),
        epsilon: float(1e-6),
      },
    );
  }

  layer(name: string, x: Value, mask: Value | null): Value {
    const feed = (input: Value): Value => {
      const inner = this.gelu(`${name}_gelu`, this.dense(`${name}_inner`, input, WIDTH, INNER));
      return this.dense(`${name}_outer`, inner, INNER, WIDTH);
    };
    const add = (suffix: string, a: Value, b: Value): Value => this.node('Add', `${name}_${suffix}`, [a, b]);
    if (this.style === 'vit') {
      const first = add('residual', this.attention(`${name}_attention`, this.norm(`${name}_norm1`, x), null), x);
      return add('residual2', feed(this.norm(`${name}_norm2`, first)), first);
    }
    const first = this.norm(`${name}_norm1`, add('residual', this.attention(`${name}_attention`, x, mask), x));
    return this.norm(`${name}_norm2`, add('residual2', feed(first), first));
  }
}

function encoder(style: Style, layers = 2): { model: Uint8Array; feed: Feed } {
  const net = new Encoder(style);
  let x = net.input('x', ['batch', 'length', WIDTH]);
  let mask: Value | null = null;
  const feed: Record<string, Tensor> = { x: randomTensor([2, 6, WIDTH], 3, 2) };
  if (style !== 'vit') {
    const keys = net.input('mask', ['batch', 'length']);
    keys.type = { dtype: 'int64', shape: ['batch', 'length'] };
    feed.mask = new Tensor('int64', [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0], [2, 6]);
    const axes = (name: string, ...list: number[]): Value => net.constant(name, new Tensor('int64', list));
    if (style === 'distilbert') {
      const zero = net.node('Equal', 'is_zero', [keys, net.constant('zero', new Tensor('int64', [0], []))]);
      mask = net.node('Unsqueeze', 'mask4', [zero, axes('axes', 1, 2)]);
    } else {
      const once = net.node('Unsqueeze', 'mask3', [keys, axes('axes1', 1)]);
      const twice = net.node('Unsqueeze', 'mask4', [once, axes('axes2', 2)]);
      const real = net.node('Cast', 'mask_float', [twice], { to: int(1) });
      const inverted = net.node('Sub', 'mask_inverted', [net.scalar('one', 1), real]);
      mask = net.node('Mul', 'mask_added', [
        inverted,
        net.scalar('lowest', style === 'bert' ? -10000 : -3.4028234663852886e38),
      ]);
    }
  }
  for (let i = 0; i < layers; i++) x = net.layer(`l${i}`, x, mask);
  net.output(x);
  return { model: net.bytes(), feed };
}

function fused(model: Uint8Array, keep: string[] = []): Graph {
  const graph = readGraph(model);
  prepare(graph);
  fuseTransformers(graph, ({ name }) => keep.includes(name));
  return graph;
}

describe('passes: fuseTransformers', () => {
  const expected: Record<Style, Record<string, number>> = {
    bert: { Attention: 2, Gelu: 2, FastGelu: 0, SkipLayerNormalization: 4 },
    distilbert: { Attention: 2, Gelu: 2, FastGelu: 0, SkipLayerNormalization: 4 },
    sdpa: { Attention: 2, Gelu: 0, FastGelu: 2, SkipLayerNormalization: 4 },
    // Its first norm has no sum before it.
    vit: { Attention: 2, Gelu: 2, FastGelu: 0, SkipLayerNormalization: 3 },
  };
  for (const style of ['bert', 'distilbert', 'sdpa', 'vit'] as const) {
    const { model, feed } = encoder(style);

    it(`${style}: the same results with fewer operators`, async () => {
      const graph = fused(model);
      const counts = opCounts(graph);
      for (const [op, count] of Object.entries(expected[style])) assert.equal(counts[op] ?? 0, count, op);
      assert.equal(counts.Softmax ?? 0, 0);
      assert.equal(counts.MatMul, 6);
      const exact = await runOrt(model, feed, { graphOptimizationLevel: 'disabled' });
      const rewritten = writeModel(graphToProto(graph));
      const own = Object.values(interpret(graph, feed))[0].data as Float32Array;
      const judged = await runOrt(rewritten, feed, { graphOptimizationLevel: 'disabled' });
      // FastGelu in onnxruntime has a tanh of its own.
      const least = style === 'sdpa' ? 60 : 90;
      assert.ok(sqnr(exact, own) > least, `run(): ${sqnr(exact, own)} dB`);
      assert.ok(sqnr(exact, judged) > least, `onnxruntime: ${sqnr(exact, judged)} dB`);
      assert.ok(sqnr(exact, await runSession(rewritten, feed)) > least, 'a session');
    });

    it(`${style}: dynamic quantization reaches QAttention`, async () => {
      const { model: quantized, report } = await quantize(model, { mode: 'dynamic', verify: true });
      assert.deepEqual(report.quantizedNodes, { Attention: 2, MatMul: 6 });
      assert.equal(opCounts(readGraph(quantized)).QAttention, 2);
      const exact = await runOrt(model, feed);
      const judged = await runOrt(quantized, feed, EXACT);
      const own = runOwn(quantized, feed);
      assert.ok(sqnr(exact, own) > 25, `q8: ${sqnr(exact, own)} dB`);
      assert.ok(sqnr(exact, judged) > 25, `onnxruntime: ${sqnr(exact, judged)} dB`);
      assert.ok(sqnr(judged, own) > 35, `q8 to onnxruntime: ${sqnr(judged, own)} dB`);
      assert.ok(sqnr(own, await runSession(quantized, feed)) > 35, 'a session');
    });
  }

  it('leaves alone what must stay, what others read, and what it does not know', () => {
    const { model } = encoder('bert', 1);
    assert.equal(opCounts(fused(model, ['l0_attention_key_MatMul'])).Attention, undefined);
    const graph = readGraph(model);
    prepare(graph);
    const weights = [...graph.nodes].find(({ op }) => op === 'Softmax')!.output;
    graph.outputs.push(weights);
    fuseTransformers(graph, () => false);
    assert.equal(opCounts(graph).Attention, undefined);
    const biased = readGraph(model);
    prepare(biased);
    const add = [...biased.nodes].find(({ name }) => name === 'l0_attention_masked')!;
    add.setInput(1, biased.newConstant('distances', randomTensor([1, 1, 6, 6], 4)));
    fuseTransformers(biased, () => false);
    assert.equal(opCounts(biased).Attention, undefined);
  });

  it('layers that share their weights share those of attention', () => {
    const { model } = encoder('bert');
    const graph = readGraph(model);
    prepare(graph);
    const named = new Map([...graph.nodes].map((node) => [node.name, node]));
    for (const part of ['query', 'key', 'value']) {
      for (const [suffix, index] of [
        ['_MatMul', 1],
        ['', 0],
      ] as const) {
        const [first, second] = [0, 1].map((i) => named.get(`l${i}_attention_${part}${suffix}`)!);
        second.setInput(index, first.input(index));
      }
    }
    fuseTransformers(graph, () => false);
    const [first, second] = [...graph.nodes].filter(({ op }) => op === 'Attention');
    assert.equal(first.input(1), second.input(1));
    assert.equal(first.input(2), second.input(2));
    assert.equal(opCounts(fused(model)).Attention, 2);
  });

  it('follows the selection and the option', async () => {
    const { model } = encoder('bert', 1);
    const one = await quantize(model, { mode: 'dynamic', exclude: 'l0_attention_query_MatMul' });
    assert.deepEqual(one.report.quantizedNodes, { MatMul: 5 });
    const off = await quantize(model, { mode: 'dynamic', fuseTransformers: false });
    assert.deepEqual(off.report.quantizedNodes, { MatMul: 6 });
    const only = await quantize(model, { mode: 'dynamic', include: { opType: 'MatMul' } });
    assert.deepEqual(only.report.quantizedNodes, { Attention: 1, MatMul: 3 });
  });
});
