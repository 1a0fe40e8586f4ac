/** Options that say how tensors are represented, one by one, and exceptions by tensor. */
import assert from 'node:assert/strict';
import type { Node } from '../../lib/graph/graph';
import { type QuantizeOptions, quantize, type StaticQuantizeOptions } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { EXACT, runOrt, runSession } from './judges';
import { feedsFor, NETWORKS, type TestNetwork } from './networks';
import { readGraph } from './run-graph';

type Options = Omit<Partial<StaticQuantizeOptions>, 'mode'>;

const [RESIDUAL, EXCITE, ATTENTION] = NETWORKS;

/** Quantizes to Q/DQ, opens the result in onnxruntime with all optimizations and in q8, and compares the two. */
async function quantizeNet(net: TestNetwork, options: Options, least = 15) {
  const { model, report } = await quantize(net.model, {
    mode: 'static',
    calibration: feedsFor(net, 8),
    engine: 'ort',
    format: 'qdq',
    ...options,
  });
  const [sample] = feedsFor(net, 1);
  const [float, judged, own] = await Promise.all([
    runOrt(net.model, sample),
    runOrt(model, sample, EXACT),
    runSession(model, sample),
  ]);
  // Integer forms of both differ by last bits of codes in each layer.
  assert.ok(sqnr(judged, own) > 20, `q8 to onnxruntime ${sqnr(judged, own)} dB`);
  assert.ok(sqnr(float, judged) > least, `${sqnr(float, judged)} dB`);
  const graph = readGraph(model);
  const nodes = [...graph.nodes];
  const named = (name: string) => nodes.find((node) => node.name === name)!;
  const params = (node: Node) => ({
    type: node.input(2)?.constant?.type,
    scale: (node.requiredInput(1).constant!.data as Float32Array)[0],
    zeroPoint: (node.requiredInput(2).constant!.data as Uint8Array)[0],
  });
  const of = (name: string, kind = 'activation') => report.tensors.find((t) => t.name === name && t.kind === kind);
  return { graph, nodes, named, params, report, of };
}

describe('quantize: representation of tensors', () => {
  it('restricts zero points to 0 and 128', async () => {
    const { report } = await quantizeNet(EXCITE, { restrictZeroPoints: true });
    const zeros = report.tensors.filter(({ kind }) => kind === 'activation').map(({ zeroPoint }) => zeroPoint[0]);
    assert.deepEqual(new Set(zeros), new Set([0, 128]));
  });

  it('leaves outputs of some operators in float', async () => {
    const { named, of } = await quantizeNet(ATTENTION, { floatOutputsOf: ['MatMul'] });
    assert.equal(of('scores'), undefined);
    assert.deepEqual(
      named('scores').output.consumers.map(({ op }) => op),
      ['Softmax'],
    );
  });

  it('gives every reader a pair of its own', async () => {
    const { nodes, named } = await quantizeNet(RESIDUAL, { pairPerConsumer: true });
    const pairs = nodes.filter(({ op }) => op === 'DequantizeLinear').map(({ output }) => output.consumerCount);
    assert.ok(pairs.every((count) => count <= 1));
    assert.ok(named('pool_QuantizeLinear_1') && named('pool_QuantizeLinear_2'));
  });

  it('keeps weights as floats behind pairs', async () => {
    const { named, graph } = await quantizeNet(RESIDUAL, { weightPairs: true });
    assert.equal(named('stem_w_QuantizeLinear').input(0)?.constant?.type, 'float32');
    assert.equal(named('stem_w_QuantizeLinear').attributes.int('axis'), 0);
    assert.equal(
      graph.constants().some(({ name }) => name === 'stem_w_quantized'),
      false,
    );
  });

  it('writes pairs of com.microsoft, which keep the opset', async () => {
    const { nodes, graph } = await quantizeNet(
      ATTENTION,
      {
        pairDomain: 'com.microsoft',
        activationType: 'uint16',
        weightType: 'int4',
      },
      8,
    );
    for (const { op, domain } of nodes) if (op.endsWith('Linear')) assert.equal(domain, 'com.microsoft');
    assert.equal(graph.opset(), 17);
  });

  it('leaves biases in float', async () => {
    const { named, of } = await quantizeNet(RESIDUAL, { quantizeBias: false });
    assert.equal(named('stem').input(2)?.constant?.type, 'float32');
    assert.equal(of('stem_b', 'bias'), undefined);
  });

  it('leaves products of two activations in float', async () => {
    const { report } = await quantizeNet(ATTENTION, { constantWeightsOnly: true });
    const reasons = Object.fromEntries(report.floatNodes.map(({ name, reason }) => [name, reason]));
    assert.match(reasons.scores, /constantWeightsOnly/);
  });

  it('scales Sigmoid for NNAPI', async () => {
    const { of } = await quantizeNet(EXCITE, { nnapiSigmoid: true });
    assert.deepEqual([of('soft')?.scale, of('soft')?.zeroPoint], [[1 / 256], [0]]);
  });

  it('takes another axis for scales of weights, where the bias then stays float', async () => {
    const { named, of } = await quantizeNet(ATTENTION, { channelAxis: { Gemm: 0, MatMul: -2 } });
    assert.equal(of('out_w', 'weight')?.axis, 0);
    assert.equal(of('keys_w', 'weight')?.axis, 0);
    assert.equal(named('out').input(2)?.constant?.type, 'float32');
  });

  it('blocks matrices along what is summed, and no convolutions', async () => {
    const { of } = await quantizeNet(RESIDUAL, { weightType: 'int4', blockSize: 8 }, 5);
    assert.deepEqual([of('logits_w', 'weight')?.axis, of('logits_w', 'weight')?.block], [1, 8]);
    assert.deepEqual([of('stem_w', 'weight')?.axis, of('stem_w', 'weight')?.block], [0, undefined]);
  });

  describe('overrides', () => {
    it('change type, range, scale and granularity of single tensors', async () => {
      const { of, named } = await quantizeNet(
        RESIDUAL,
        {
          overrides: {
            sum_relu: { type: 'uint16' },
            stem_relu: { range: [0, 4] },
            both: { scale: 0.03125, zeroPoint: 7 },
            left_w: { type: 'int4', axis: null },
            depthwise_w: {
              axis: 0,
              scale: [1, 2, 3, 4, 5, 6, 7, 8].map((s) => s / 100),
              zeroPoint: new Array(8).fill(0),
            },
            logits_w: { reduceRange: true, symmetric: true },
            stem_b: { type: 'int16' },
          },
        },
        3,
      );
      assert.equal(of('sum_relu')?.type, 'uint16');
      assert.deepEqual([of('stem_relu')?.scale, of('stem_relu')?.zeroPoint], [[Math.fround(4 / 255)], [0]]);
      assert.deepEqual([of('both')?.scale, of('both')?.zeroPoint], [[0.03125], [7]]);
      assert.deepEqual([of('left_w', 'weight')?.type, of('left_w', 'weight')?.scale.length], ['int4', 1]);
      assert.deepEqual(of('depthwise_w', 'weight')?.scale.slice(0, 2), [Math.fround(0.01), Math.fround(0.02)]);
      assert.equal(of('stem_b', 'weight')?.type, 'int16');
      assert.equal(named('stem_b_DequantizeLinear').input(0)?.constant?.type, 'int16');
    });

    it('convert a tensor for some of its readers', async () => {
      const { named, params, of } = await quantizeNet(RESIDUAL, {
        overrides: { pool: {}, stem_relu: {}, sum_relu: { convert: { type: 'uint16', receivers: ['both'] } } },
      });
      assert.equal(named('both').input(0)?.producer?.name, 'sum_relu_DequantizeLinear_convert');
      assert.equal(named('depthwise').input(0)?.producer?.name, 'sum_relu_DequantizeLinear');
      assert.equal(params(named('sum_relu_QuantizeLinear_convert')).type, 'uint16');
      assert.equal(
        named('sum_relu_QuantizeLinear_convert').input(0)?.producer?.name,
        'sum_relu_DequantizeLinear_convert_clone',
      );
      assert.equal(of('sum_relu')?.type, 'uint8');
    });

    it('convert a tensor for all of its readers, biases included', async () => {
      const { named, params } = await quantizeNet(RESIDUAL, {
        overrides: { sum_relu: { convert: { type: 'int16', symmetric: true } } },
      });
      const { type, scale } = params(named('sum_relu_QuantizeLinear_convert'));
      assert.equal(type, 'int16');
      const weight = named('depthwise_w_DequantizeLinear').input(1)?.constant?.data as Float32Array;
      const bias = named('depthwise_b_DequantizeLinear').input(1)?.constant?.data as Float32Array;
      assert.deepEqual([...bias], [...weight.map((s) => s * scale)]);
    });

    it('convert an output of the graph', async () => {
      const { graph, named } = await quantizeNet(RESIDUAL, { overrides: { logits: { convert: { type: 'uint16' } } } });
      assert.equal(graph.outputs[0].name, 'logits');
      assert.equal(graph.outputs[0].producer, named('logits_DequantizeLinear_convert'));
    });

    it('need no range of what they prescribe', async () => {
      const { ranges } = await quantize(RESIDUAL.model, { mode: 'static', calibration: feedsFor(RESIDUAL, 2) });
      const { x, ...others } = ranges!.tensors;
      const overrides = Object.fromEntries(
        // The one that shares the scale of a Concat, unless it is overridden, too.
        ['depthwise_clip', ...Object.keys(others)].map((name) => [name, { scale: 0.05, zeroPoint: 128 }]),
      );
      const { report } = await quantize(RESIDUAL.model, { mode: 'static', ranges: { x }, overrides });
      const scales = report.tensors.filter(({ kind, name }) => kind === 'activation' && name !== 'x');
      assert.ok(scales.length > 4 && scales.every(({ scale }) => scale[0] === Math.fround(0.05)));
    });
  });

  describe('refuses', () => {
    const data = new Proxy([], {
      get() {
        throw new Error('calibration was touched');
      },
    });
    const overrides = (value: unknown) => ({ format: 'qdq', overrides: value });
    const cases: [what: string, options: object, message: RegExp][] = [
      [
        '16-bit activations in integer operators',
        { activationType: 'uint16' },
        /activationType.*16 bits need format: 'qdq'/,
      ],
      ['4-bit weights in integer operators', { weightType: 'int4' }, /weightType.*4 bits need format: 'qdq'/],
      ['pairs in integer operators', { weightPairs: true }, /Expected format: 'qdq' for the option weightPairs/],
      [
        'blocks without length',
        { format: 'qdq', weightType: 'int4', blockSize: 0 },
        /positive integer for the option blockSize/,
      ],
      ['8-bit blocks', { format: 'qdq', blockSize: 32 }, /weights of 4 bits or activations of 16/],
      ['restricted zero points of int8', { activationType: 'int8', restrictZeroPoints: true }, /restrictZeroPoints/],
      ['int8 with uint8', { activationType: 'int8', weightType: 'uint8' }, /"int8" for the option weightType/],
      ['another compat', { compat: 'onnx' }, /"onnxruntime" for the option compat/],
      [
        'a tensor that does not exist',
        overrides({ sum_rel: { type: 'uint16' } }),
        /overrides but received "sum_rel".*did you mean "sum_relu"/,
      ],
      ['a tensor that stays float', overrides({ sum: { type: 'uint16' } }), /a tensor that is quantized.*"sum"/],
      ['a tensor that shares its codes', overrides({ flat: { type: 'uint16' } }), /codes of "mean"; override that one/],
      [
        'an unknown key',
        overrides({ x: { typ: 'uint8' } }),
        /Unknown option "typ" for the override of tensor "x".*"type"/,
      ],
      [
        'an unknown type',
        overrides({ x: { type: 'uint9' } }),
        /type of the override of tensor "x".*did you mean "uint8"/,
      ],
      ['half a scale', overrides({ x: { scale: 1 } }), /zeroPoint beside scale for the override of tensor "x"/],
      ['scale and range', overrides({ x: { scale: 1, zeroPoint: 0, range: [0, 1] } }), /no scale.*range to decide/],
      ['a zero point beyond its type', overrides({ x: { scale: 1, zeroPoint: 256 } }), /integers from 0 to 255/],
      ['a range upside down', overrides({ x: { range: [1, 0] } }), /\[min, max\], two finite numbers/],
      [
        'a conversion to the same type',
        overrides({ x: { convert: { type: 'uint8' } } }),
        /another type than that of the tensor/,
      ],
      [
        'a receiver that does not read',
        overrides({ sum_relu: { convert: { type: 'uint16', receivers: ['bot'] } } }),
        /did you mean "both"/,
      ],
      [
        'a conversion of a weight',
        overrides({ stem_w: { convert: { type: 'uint16' } } }),
        /no convert.*one type for all readers/,
      ],
      ['an axis for an activation', overrides({ x: { axis: 1 } }), /no axis for the override of tensor "x"/],
      ['an axis that is not there', overrides({ stem_w: { axis: 4 } }), /an axis of shape \[8, 3, 3, 3\]/],
      ['too few scales', overrides({ stem_w: { axis: 0, scale: [1, 2], zeroPoint: [0, 0] } }), /1 or 8 for scale/],
      [
        'a converted tensor with pairs per reader',
        { ...overrides({ x: { convert: { type: 'uint16' } } }), pairPerConsumer: true },
        /pairPerConsumer/,
      ],
      ['a Gemm that the tool gets wrong', { compat: 'onnxruntime', format: 'qdq' }, /alpha 1 for Gemm "logits"/],
    ];
    for (const [what, options, message] of cases) {
      it(what, async () => {
        const given = { mode: 'static', calibration: data, ...options } as unknown as QuantizeOptions;
        await assert.rejects(quantize(RESIDUAL.model, given), (error: Error & { code?: string; hint?: string }) => {
          assert.equal(error.code, 'ERR_Q8_INVALID_ARGUMENT', error.message);
          assert.match(error.message, message);
          return true;
        });
      });
    }
  });
});
