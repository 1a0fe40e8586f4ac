/**
 * Draws lines of text whose orientation is known, as the text-direction classifier of PP-OCR wants them. Everything
 * follows from the number of the line: the same number gives the same words, font, orientation and noise.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createCanvas, GlobalFonts } from '@napi-rs/canvas';

/** What the classifier takes: blue, green and red planes of `HEIGHT` x `WIDTH`. */
export const CHANNELS = 3;
export const HEIGHT = 48;
export const WIDTH = 192;
export const LINE_ELEMENTS = CHANNELS * HEIGHT * WIDTH;

/** A line of text and how it lies. */
export interface TextLine {
  text: string;
  /** Index of the right class of the classifier: 0 upright, 1 turned by 180 degrees. */
  label: 0 | 1;
  /** float32 [3, 48, 192], normalized. */
  pixels: Float32Array;
}

export const FACES = ['400-normal', '700-normal', '400-italic', '700-italic'];
for (const face of FACES) {
  const file = require.resolve(`@fontsource/dejavu-sans/files/dejavu-sans-latin-${face}.woff2`);
  if (!GlobalFonts.registerFromPath(file, familyOf(face))) throw new Error(`${file} is not a font.`);
}

export const WORDS = readFileSync(path.join(__dirname, 'words.txt'), 'utf8').trim().split(/\s+/);

/**
 * Draws line number `index`. Each channel of each pixel gets noise of its own, uniform in [-noise, noise] on the scale
 * 0..255. Lines longer than the classifier's window are cut, shorter ones are followed by zeros (grey).
 */
export function renderLine(index: number, noise: number): TextLine {
  const random = new Random(index);
  const text = compose(random);
  const font = `${random.integer(26, 34)}px ${familyOf(random.pick(FACES))}`;
  const ink = random.integer(0, 80);
  const paper = random.integer(200, 255);
  const label = random.integer(0, 1) as 0 | 1;

  const ruler = createCanvas(1, 1).getContext('2d');
  ruler.font = font;
  const width = Math.ceil(ruler.measureText(text).width) + 2 * MARGIN;
  const canvas = createCanvas(width, HEIGHT);
  const context = canvas.getContext('2d');
  context.fillStyle = grey(paper);
  context.fillRect(0, 0, width, HEIGHT);
  if (label === 1) {
    context.translate(width, HEIGHT);
    context.rotate(Math.PI);
  }
  context.font = font;
  context.fillStyle = grey(ink);
  context.textBaseline = 'middle';
  context.fillText(text, MARGIN, HEIGHT / 2);

  const visible = Math.min(width, WIDTH);
  const { data } = context.getImageData(0, 0, visible, HEIGHT);
  return { text, label, pixels: normalize(data, visible, noise, random) };
}

/** Lines `first` to `first + count - 1`. */
export function renderLines(first: number, count: number, noise: number): TextLine[] {
  return Array.from({ length: count }, (_, i) => renderLine(first + i, noise));
}

/** Space left and right of the text, in pixels. */
const MARGIN = 6;

export function familyOf(face: string): string {
  return `Q8Lines-${face}`;
}

function grey(level: number): string {
  return `rgb(${level}, ${level}, ${level})`;
}

/** Two to four words, some of them capitalized, in capitals or numbers. */
export function compose(random: Random): string {
  return Array.from({ length: random.integer(2, 4) }, () => {
    const word = random.pick(WORDS);
    const style = random.integer(0, 9);
    if (style === 0) return String(random.integer(10, 9999));
    if (style === 1) return word.toUpperCase();
    return style < 5 ? word[0]!.toUpperCase() + word.slice(1) : word;
  }).join(' ');
}

/** RGBA rows to normalized BGR planes. */
function normalize(rgba: Uint8ClampedArray, width: number, noise: number, random: Random): Float32Array {
  const pixels = new Float32Array(LINE_ELEMENTS);
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < CHANNELS; channel++) {
        const value = rgba[(y * width + x) * 4 + 2 - channel]! + noise * (2 * random.next() - 1);
        const level = Math.round(Math.min(255, Math.max(0, value)));
        pixels[(channel * HEIGHT + y) * WIDTH + x] = (level / 255 - 0.5) / 0.5;
      }
    }
  }
  return pixels;
}

/** Xorshift with 32 bits of state, seeded through a multiplicative hash so that neighbouring seeds share nothing. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed + 1, 0x9e3779b1) ^ 0x5bd1e995) >>> 0 || 1;
    for (let i = 0; i < 8; i++) this.next();
  }

  /** Uniform in [0, 1). */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state / 2 ** 32;
  }

  /** Uniform in low..high, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)]!;
  }
}
