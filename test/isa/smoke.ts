/**
 * A process of its own, started by scripts/test-isa.mjs on each CPU model: products of all type pairs, and both demo
 * networks from float model to int8 codes, with q8 alone. Prints one line of JSON: the instruction set that detection
 * (or Q8_ISA) selected and the SHA-256 of each part. Fails unless they are those of digests.json, which hold for
 * every CPU.
 */
import assert from 'node:assert/strict';
import { createHash, type Hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { loadImages, toTensor } from '../../examples/fashion-mnist/data';
import { cpuInfo, InferenceSession, qgemm, quantize } from '../../lib';
import { graphFromProto } from '../../lib/graph/from-proto';
import { inferShapes } from '../../lib/graph/infer';
import { decodeModel } from '../../lib/onnx/read';
import { lookupOp } from '../../lib/ops/registry';

/** Few, because emulated CPUs are slow. */
const CALIBRATION_IMAGES = 8;
const TEST_IMAGES = 2;
/** m, n, k: one row, ragged tiles, a depth beyond one block. */
const SHAPES = [
  [1, 70, 129],
  [3, 16, 7],
  [37, 33, 64],
  [64, 48, 515],
] as const;

/** Xorshift32: the same codes everywhere. */
function makeCodes<T extends Uint8Array | Int8Array>(codes: T, seed: number): T {
  let state = seed;
  for (let i = 0; i < codes.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    codes[i] = state;
  }
  return codes;
}

function update(hash: Hash, { buffer, byteOffset, byteLength }: ArrayBufferView): void {
  hash.update(new Uint8Array(buffer, byteOffset, byteLength));
}

/** Raw sums and codes of every type pair and shape. */
function digestProducts(): string {
  const hash = createHash('sha256');
  for (const [m, n, k] of SHAPES) {
    for (const A of [Uint8Array, Int8Array]) {
      for (const B of [Uint8Array, Int8Array]) {
        const a = makeCodes(new A(m * k), m + k);
        const b = makeCodes(new B(k * n), n + k);
        const product = { m, n, k, a, b, aZeroPoint: 3, bZeroPoint: B === Uint8Array ? 131 : 0 };
        update(hash, qgemm(product));
        update(hash, qgemm({ ...product, requantize: { scale: 0.0007, dtype: 'uint8', zeroPoint: 128 } }));
        update(hash, qgemm({ ...product, requantize: { scale: 0.0007, dtype: 'int8', zeroPoint: -1 } }));
        update(hash, qgemm({ ...product, dequantize: { scale: 0.001 } }));
      }
    }
  }
  return hash.digest('hex');
}

/** The 8-bit codes that every node of the quantized network gives. */
async function digestNetwork(name: string): Promise<string> {
  const file = path.join(__dirname, '..', '..', 'examples', 'fashion-mnist', `${name}.onnx`);
  const calibration = [{ input: toTensor(loadImages('calibration-images.idx.gz'), 0, CALIBRATION_IMAGES) }];
  const { model } = await quantize(file, { mode: 'static', engine: 'q8', calibration });
  const graph = graphFromProto(decodeModel(model));
  inferShapes(graph, lookupOp);
  const codes = graph
    .topologicalOrder()
    .map((node) => node.output)
    .filter(({ type }) => type?.dtype === 'uint8' || type?.dtype === 'int8');
  assert.ok(codes.length >= 10, `${name} gives 8-bit codes`);
  graph.outputs.push(...codes.filter((value) => !graph.outputs.includes(value)));
  using session = InferenceSession.fromGraph(graph.clone());
  const results = session.runSync({ input: toTensor(loadImages('test-images.idx.gz'), 0, TEST_IMAGES) });
  const hash = createHash('sha256');
  for (const { name: output } of codes) update(hash, results[output].data as Uint8Array | Int8Array);
  return hash.digest('hex');
}

async function main(): Promise<void> {
  const digests = {
    qgemm: digestProducts(),
    resnet8: await digestNetwork('resnet8'),
    mobilenetv2: await digestNetwork('mobilenetv2'),
  };
  const { selected, supported, compiled } = cpuInfo().isa;
  process.stdout.write(`${JSON.stringify({ arch: process.arch, selected, supported, compiled, digests })}\n`);
  assert.deepEqual(digests, JSON.parse(readFileSync(path.join(__dirname, 'digests.json'), 'utf8')));
}

void main();
