/**
 * A process of its own, started with Q8_ISA set: quantizes ResNet-8 with q8 alone, runs it, and prints the instruction set
 * and the SHA-256 of everything that came out.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { loadImages, toTensor } from '../../examples/fashion-mnist/data';
import { cpuInfo, InferenceSession, quantize } from '../../lib';
import { graphFromProto } from '../../lib/graph/from-proto';
import { decodeModel } from '../../lib/onnx/read';
import type { Tensor } from '../../lib/tensor/tensor';
import { withAllOutputs } from './node-by-node';

/** Few, because the portable kernels are slow. */
const CALIBRATION_IMAGES = 32;
const TEST_IMAGES = 16;

async function main(): Promise<void> {
  const file = path.join(__dirname, '..', '..', 'examples', 'fashion-mnist', 'resnet8.onnx');
  const calibration = [{ input: toTensor(loadImages('calibration-images.idx.gz'), 0, CALIBRATION_IMAGES) }];
  const { model } = await quantize(file, { mode: 'static', engine: 'q8', calibration });
  const graph = withAllOutputs(graphFromProto(decodeModel(model)));
  const order = graph.topologicalOrder();
  using session = InferenceSession.fromGraph(graph.clone());
  const results = session.runSync({ input: toTensor(loadImages('test-images.idx.gz'), 0, TEST_IMAGES) });

  const hash = createHash('sha256');
  for (const node of order) {
    for (const value of node.inputs) if (value?.constant) hash.update(bytesOf(value.constant));
    hash.update(bytesOf(results[node.output.name] as Tensor));
  }
  process.stdout.write(`${cpuInfo().isa.selected} ${hash.digest('hex')}\n`);
}

function bytesOf(tensor: Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.data as Float32Array;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

void main();
