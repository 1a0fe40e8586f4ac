/**
 * Weight-only quantization: the numbers of ONNX Runtime's own tool, and models that open in onnxruntime-node, agree with q8
 * and stay close to float.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { type Graph, isConcrete } from '../../lib/graph/graph';
import { codeAt } from '../../lib/ops/families/block-codes';
import { quantize, type WeightOnlyQuantizeOptions } from '../../lib/index';
import { type BlockAlgorithm, quantizeBlocks } from '../../lib/quantize/blocks';
import { sqnr } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { opCounts, runOrt, runOwn, runSession } from './judges';
import { float, int, ints, NetworkBuilder, NETWORKS, randomTensor } from './networks';
import { readGraph } from './run-graph';

const FIXTURE = path.join(__dirname, '../fixtures/ort-quantizer/nbits.json');

interface Case {
  k: number;
  n: number;
  seed: number;
  block: number;
  bits: 2 | 4 | 8;
  symmetric: boolean;
  format: 'qoperator' | 'qdq';
  codes: string;
  scales: string;
  zeroPoints: string | null;
}
type Table = Omit<Case, 'k' | 'n' | 'bits' | 'format'> & { rows: number; width: number };
const { cases, tables }: { cases: Case[]; tables: Table[] } = JSON.parse(fs.readFileSync(FIXTURE, 'utf8'));

const bytesOf = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));

/** What scripts/make-ort-nbits-fixtures.py quantized. */
function fixtureWeight(dims: [number, number], seed: number): Tensor<'float32'> {
  const weight = randomTensor(dims, seed);
  for (let r = 0; r < dims[0]; r++) {
    weight.data[r * dims[1]] = 0;
    weight.data[r * dims[1] + 1] = 0.375;
    weight.data[r * dims[1] + 2] = Math.abs(weight.data[r * dims[1] + 2]);
  }
  return weight;
}

function only(graph: Graph, op: string) {
  const [node, ...rest] = [...graph.nodes].filter((candidate) => candidate.op === op);
  assert.ok(node && rest.length === 0, op);
  return node;
}

/** The bytes as a file stores them: two codes of four bits each. */
function packed(tensor: Tensor | undefined): Uint8Array {
  if (tensor?.type !== 'int4' && tensor?.type !== 'uint4') return new Uint8Array(tensor!.data as Uint8Array);
  const out = new Uint8Array(Math.ceil(tensor.size / 2));
  (tensor.data as Int8Array).forEach((code, i) => {
    out[i >> 1] |= (code & 15) << (4 * (i & 1));
  });
  return out;
}

describe('quantize, mode weightOnly: against ONNX Runtime', () => {
  for (const { k, n, seed, block, bits, symmetric, format, ...expected } of cases) {
    it(`${k} x ${n}, ${bits} bits, blocks of ${block}, symmetric ${symmetric}, ${format}`, async () => {
      const net = new NetworkBuilder();
      const x = net.input('x', [1, k]);
      net.output(net.node('MatMul', 'y', [x, net.constant('w', fixtureWeight([k, n], seed))]));
      const options = { mode: 'weightOnly', bits, blockSize: block, symmetric, format } as WeightOnlyQuantizeOptions;
      const graph = readGraph((await quantize(net.bytes(), options)).model);
      const node = only(graph, format === 'qdq' ? 'DequantizeLinear' : 'MatMulNBits');
      const first = format === 'qdq' ? 0 : 1;
      const [codes, scales, zeros] = [0, 1, 2].map((i) => node.input(first + i)?.constant);
      assert.deepEqual(scales?.data, new Float32Array(bytesOf(expected.scales).buffer));
      const [mine, theirs] = [packed(codes), bytesOf(expected.codes)];
      assert.equal(mine.length, theirs.length);
      // Beyond the end of K, blocks are padded with what nobody reads.
      const blob = (block * bits) / 8;
      const blocks = Math.ceil(k / block);
      for (let at = 0; at < k * n; at++) {
        const column = Math.floor(at / k);
        const start = (column * blocks + Math.floor((at % k) / block)) * blob;
        const read = (bytes: Uint8Array): number =>
          format === 'qdq' ? codeAt(bytes, 0, at, 4) : codeAt(bytes, start, (at % k) % block, bits);
        assert.equal(read(mine), read(theirs), `code ${at}`);
      }
      if (!expected.zeroPoints) assert.equal(zeros, undefined);
      else {
        const [own, other] = [packed(zeros), bytesOf(expected.zeroPoints)];
        const width = Math.ceil((blocks * bits) / 8);
        for (let at = 0; at < blocks * n; at++) {
          const read = (bytes: Uint8Array): number =>
            format === 'qdq'
              ? codeAt(bytes, 0, at, 4)
              : codeAt(bytes, Math.floor(at / blocks) * width, at % blocks, bits);
          assert.equal(read(own), read(other), `zero point ${at}`);
        }
      }
    });
  }

  for (const { rows, width, seed, block, symmetric, ...expected } of tables) {
    it(`table ${rows} x ${width}, symmetric ${symmetric}`, () => {
      const { data } = fixtureWeight([rows, width], seed);
      const q = quantizeBlocks(data, rows, width, block, { bits: 4, symmetric, algorithm: 'rtn' });
      assert.deepEqual(q.scales, new Float32Array(bytesOf(expected.scales).buffer));
      // Their symmetric codes are signed.
      const theirs = bytesOf(expected.codes);
      q.codes.forEach((code, i) => {
        assert.equal(code, codeAt(theirs, 0, i, 4) ^ (symmetric ? 8 : 0), `code ${i}`);
      });
    });
  }
});

/** Matrix products of each spelling, a table, and a convolution, with a graph around them. */
function mixedNet(): { model: Uint8Array; feed: Record<string, Tensor> } {
  const net = new NetworkBuilder();
  const ids = net.input('ids', [2, 3]);
  ids.type = { dtype: 'int64', shape: [2, 3] };
  const words = net.node('Gather', 'words', [net.weight('table', [20, 48]), ids]);
  const once = net.node('MatMul', 'once', [words, net.weight('w', [48, 40])]);
  const stacked = net.node('MatMul', 'stacked', [once, net.weight('unit', [1, 40, 33])]);
  const flat = net.node('Reshape', 'flat', [stacked, net.constant('shape', new Tensor('int64', [6, 33]))]);
  const gemm = net.node('Gemm', 'gemm', [flat, net.weight('g', [32, 33]), net.weight('b', [32])], {
    transB: int(1),
    alpha: float(0.5),
    beta: float(2),
  });
  const image = net.node('Reshape', 'image', [gemm, net.constant('dims', new Tensor('int64', [1, 3, 8, 8]))]);
  const conv = net.conv('conv', image, [6, 3, 3, 3], { pads: ints(1, 1, 1, 1) });
  net.output(net.node('ConvTranspose', 'up', [conv, net.weight('up_w', [6, 4, 2, 2])], { strides: ints(2, 2) }));
  return { model: net.bytes(), feed: { ids: new Tensor('int64', [0, 19, 7, -1, 3, 3], [2, 3]) } };
}

describe('quantize, mode weightOnly: models', () => {
  const { model: original, feed } = mixedNet();
  const forms: [Partial<WeightOnlyQuantizeOptions>, Record<string, number>, number][] = [
    [{}, { MatMul: 2, Gemm: 1, Gather: 1 }, 15],
    [{ bits: 4, symmetric: true, blockSize: 16, accuracyLevel: 1 }, { MatMul: 2, Gemm: 1, Gather: 1 }, 14],
    [{ bits: 4, algorithm: 'kquant' }, { MatMul: 2, Gemm: 1, Gather: 1 }, 14],
    [{ bits: 4, algorithm: 'hqq' }, { MatMul: 2, Gemm: 1 }, 15],
    [{ bits: 4, algorithm: 'gptq' }, { MatMul: 2, Gemm: 1, Gather: 1 }, 15],
    [{ bits: 4, algorithm: 'gptq', symmetric: true }, { MatMul: 2, Gemm: 1, Gather: 1 }, 14],
    [{ bits: 8, algorithm: 'gptq', blockSize: 64 }, { MatMul: 2, Gemm: 1, Gather: 1 }, 35],
    [{ bits: 4, algorithm: 'gptq', format: 'qdq' }, { MatMul: 2, Gemm: 1 }, 15],
    [{ bits: 2, blockSize: 16 }, { MatMul: 2, Gemm: 1 }, 1],
    [{ bits: 8, blockSize: 64 }, { MatMul: 2, Gemm: 1, Gather: 1 }, 35],
    [{ bits: 4, format: 'qdq' }, { MatMul: 2, Gemm: 1 }, 15],
    [{ bits: 4, format: 'qdq', symmetric: true, algorithm: 'rtn' }, { MatMul: 2, Gemm: 1 }, 14],
    [{ bits: 8, format: 'qdq', blockSize: 32 }, { MatMul: 2, Gemm: 1, Conv: 1, ConvTranspose: 1 }, 35],
    [{ bits: 8, format: 'qdq' }, { MatMul: 2, Gemm: 1, Conv: 1, ConvTranspose: 1 }, 35],
    [{ bits: 8, format: 'qdq', symmetric: true }, { MatMul: 2, Gemm: 1, Conv: 1, ConvTranspose: 1 }, 35],
  ];
  for (const [options, quantized, least] of forms) {
    it(JSON.stringify(options), async () => {
      const calibration = options.algorithm === 'gptq' ? [feed] : undefined;
      const { model, report } = await quantize(original, { mode: 'weightOnly', ...options, calibration });
      assert.deepEqual(report.quantizedNodes, quantized);
      const exact = await runOrt(original, feed);
      // At higher levels onnxruntime turns the weights of pairs into MatMulNBits with int8 activations.
      const judged = await runOrt(model, feed, { graphOptimizationLevel: 'disabled' });
      const own = runOwn(model, feed);
      const session = await runSession(model, feed);
      assert.ok(sqnr(exact, own) > least, `${sqnr(exact, own)} dB`);
      assert.ok(sqnr(judged, own) > 90, `q8 to onnxruntime: ${sqnr(judged, own)} dB`);
      assert.ok(sqnr(own, session) > 90, `session to definitions: ${sqnr(own, session)} dB`);
      await runOrt(model, feed);
    });
  }

  it('keeps tied weights once, and tells what stays float and why', async () => {
    const { model } = NETWORKS[2];
    const { report } = await quantize(model, { mode: 'weightOnly', exclude: 'keys' });
    assert.deepEqual(report.quantizedNodes, { MatMul: 2, Gemm: 1 });
    const reasons = Object.fromEntries(report.floatNodes.map(({ name, reason }) => [name, reason]));
    assert.equal(reasons.scores, 'its weight is not constant');
    assert.match(reasons.keys, /exclude/);
    assert.equal(
      report.tensors.every(({ block }) => block === 32),
      true,
    );
    const net = new NetworkBuilder();
    const w = net.weight('w', [32, 32]);
    net.output(net.node('MatMul', 'z', [net.node('MatMul', 'y', [net.input('x', [4, 32]), w]), w]));
    const tied = readGraph((await quantize(net.bytes(), { mode: 'weightOnly' })).model);
    assert.equal(tied.constants().filter(({ type }) => isConcrete(type?.shape) && type.dtype === 'uint8').length, 2);
    assert.equal(opCounts(tied).MatMulNBits, 2);
  });

  it('better algorithms lose less, on weights with a long tail', () => {
    const x = randomTensor([64, 64], 5).data.map((v) => v ** 5);
    const errorOf = (algorithm: BlockAlgorithm, power: number, shift = 0): number => {
      const data = x.map((v) => v + shift);
      const q = quantizeBlocks(data, 64, 64, 32, { bits: 4, symmetric: false, algorithm });
      const real = (code: number, i: number): number =>
        (code - q.zeroPoints![Math.floor(i / 32)]) * q.scales[Math.floor(i / 32)];
      return data.reduce((sum, v, i) => sum + Math.abs(real(q.codes[i], i) - v) ** power, 0);
    };
    assert.ok(errorOf('kquant', 2) < 0.97 * errorOf('rtn', 2), `${errorOf('kquant', 2)}, ${errorOf('rtn', 2)}`);
    // Starts from rounding to nearest and keeps the best; far from zero, real zero points are worth most.
    assert.ok(errorOf('hqq', 1) < 1.001 * errorOf('rtn', 1), `${errorOf('hqq', 1)}, ${errorOf('rtn', 1)}`);
    assert.ok(errorOf('hqq', 1, 3) < 0.7 * errorOf('rtn', 1, 3), `${errorOf('hqq', 1, 3)}, ${errorOf('rtn', 1, 3)}`);
  });

  it('refuses options that contradict each other, before any work', async () => {
    const wrong: [Record<string, unknown>, RegExp][] = [
      [{ bits: 3 }, /one of 2, 4, 8/],
      [{ bits: 2, format: 'qdq' }, /one of 4, 8/],
      [{ blockSize: 48 }, /16, 32, 64/],
      [{ accuracyLevel: 5 }, /0 to 4/],
      [{ accuracyLevel: 4, format: 'qdq' }, /option format/],
      [{ algorithm: 'hqq', format: 'qdq' }, /option format/],
      [{ algorithm: 'kquant', symmetric: true }, /option symmetric/],
      [{ algorithm: 'awq' }, /option algorithm/],
      [{ algorithm: 'gptq' }, /option calibration/],
      [{ calibration: [] }, /option algorithm/],
      [{ threads: 1 }, /option algorithm/],
      [{ algorithm: 'gptq', calibration: [feed], threads: -1 }, /option threads/],
      [{ algorithm: 'kquant', bits: 8, format: 'qdq' }, /option blockSize/],
      [{ weightType: 'int8' }, /mode "weightOnly"/],
    ];
    for (const [options, message] of wrong) {
      await assert.rejects(quantize('no such file', { mode: 'weightOnly', ...options } as never), message);
    }
  });

  it('shrinks a matrix to an eighth and a bit', async () => {
    const net = new NetworkBuilder();
    net.output(net.node('MatMul', 'y', [net.input('x', [1, 256]), net.weight('w', [256, 256])]));
    const { report } = await quantize(net.bytes(), { mode: 'weightOnly', symmetric: true });
    assert.ok(report.bytes.quantized < 0.17 * report.bytes.float, JSON.stringify(report.bytes));
  });
});
