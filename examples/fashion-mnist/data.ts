/** The images and labels of this folder, as the two networks want them. TRAINING.md says where they come from. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Tensor } from '../../lib';

export const PIXELS = 28 * 28;

const MEAN = 0.286;
const STD = 0.353;

export interface Images {
  count: number;
  /** Grey values of all images, one after the other. */
  pixels: Uint8Array;
}

export function loadImages(name: string): Images {
  const pixels = readIdx(name, 16);
  return { count: pixels.length / PIXELS, pixels };
}

export function loadLabels(name: string): Uint8Array {
  return readIdx(name, 8);
}

/** Images [from, from + count) as the input of a network: float32 [count, 1, 28, 28], normalized. */
export function toTensor(images: Images, from: number, count: number): Tensor<'float32'> {
  const pixels = images.pixels.subarray(from * PIXELS, (from + count) * PIXELS);
  return new Tensor(
    'float32',
    Float32Array.from(pixels, (pixel) => (pixel / 255 - MEAN) / STD),
    [count, 1, 28, 28],
  );
}

/** IDX files are a header of magic and sizes, then bytes. */
function readIdx(name: string, headerBytes: number): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(join(__dirname, name)))).subarray(headerBytes);
}
