/** Pictures as tensors: decoded and resized by sharp, an optional peer dependency that is loaded on first use. */
import { expected, Q8Error } from '../errors';
import { Tensor } from '../tensor/tensor';
import { type InputSpec, type Normalization, needsNormalization, normalize } from './inputs';

export interface ImageOptions {
  /** Height and width. Default: those of the input; where it leaves them open, those of each picture. */
  size?: readonly [height: number, width: number];
  /**
   * What happens when the proportions differ. 'cover' (default): the middle is cut out; 'contain': bars of black are added;
   * 'fill': the picture is stretched.
   */
  fit?: 'cover' | 'contain' | 'fill';
  /** Order of the axes of the input. Default: the one whose channel axis is 1, 3 or 4. */
  layout?: 'nchw' | 'nhwc';
  /** Order of the colours. Default 'rgb'. Inputs of one channel get the luminance. */
  color?: 'rgb' | 'bgr';
}

const EXTENSIONS = /\.(png|jpe?g|webp|gif|tiff?|avif)$/i;

export function isImage(path: string): boolean {
  return EXTENSIONS.test(path);
}

/**
 * One picture as a batch of one. uint8 inputs get the pixels, float32 inputs normalized ones. Pictures are turned upright
 * as their metadata says; transparency is laid on black.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT when sharp is not installed, cannot read the file, or the input takes no pictures.
 */
export async function readImage(
  path: string,
  input: InputSpec,
  options: ImageOptions,
  normalization: Normalization | undefined,
): Promise<Tensor> {
  const { layout, channels } = layoutOf(input, options.layout, path);
  if (input.type !== 'float32' && input.type !== 'uint8') {
    throw expected('an input of float32 or uint8', `the picture ${path}`, input.type, {
      code: 'ERR_Q8_UNSUPPORTED_DTYPE',
    });
  }
  if (input.type === 'float32' && !normalization) throw needsNormalization(path, input);
  const pixels = await decode(path, input, layout, channels, options);
  const { height, width } = pixels;
  const dims = layout === 'nchw' ? [1, channels, height, width] : [1, height, width, channels];
  const data = arrange(pixels.data, channels, height * width, layout, options.color ?? 'rgb');
  if (input.type === 'uint8') return new Tensor('uint8', data, dims);
  const inner = layout === 'nchw' ? height * width : 1;
  return new Tensor('float32', normalize(data, channels, inner, normalization!), dims);
}

function layoutOf(
  { name, shape }: InputSpec,
  given: 'nchw' | 'nhwc' | undefined,
  path: string,
): { layout: 'nchw' | 'nhwc'; channels: number } {
  const count = (axis: number): number | undefined => [1, 3, 4].find((channels) => shape[axis] === channels);
  if (shape.length === 4 && (shape[0] === 1 || typeof shape[0] === 'string')) {
    const layout = given ?? (count(1) ? 'nchw' : count(3) ? 'nhwc' : undefined);
    const size = layout && shape[layout === 'nchw' ? 1 : 3];
    // An open number of channels takes colour.
    if (layout && (typeof size === 'string' || [1, 3, 4].includes(size!))) {
      return { layout, channels: typeof size === 'string' ? 3 : size! };
    }
  }
  throw expected(
    'an input of shape [1, channels, height, width] or [1, height, width, channels] with 1, 3 or 4 channels',
    `the picture ${path}`,
    `${JSON.stringify(name)} of shape [${shape.join(', ')}]`,
    { hint: 'the option layout ("nchw" or "nhwc") says which axis has the channels where the shape does not.' },
  );
}

interface Pixels {
  /** Row by row, channels together. */
  data: Uint8Array;
  height: number;
  width: number;
}

async function decode(
  path: string,
  { shape }: InputSpec,
  layout: 'nchw' | 'nhwc',
  channels: number,
  { size, fit = 'cover' }: ImageOptions,
): Promise<Pixels> {
  const sharp = await load();
  const [height, width] = [0, 1].map((i) => {
    const own = shape[(layout === 'nchw' ? 2 : 1) + i];
    return size?.[i] ?? (typeof own === 'number' ? own : undefined);
  });
  try {
    let image = sharp(path).rotate();
    if (height !== undefined || width !== undefined) {
      image = image.resize({ height, width, fit, background: { r: 0, g: 0, b: 0, alpha: 1 } });
    }
    if (channels === 4) image = image.ensureAlpha();
    else image = image.flatten({ background: '#000' });
    image = image.toColourspace(channels === 1 ? 'b-w' : 'srgb');
    const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    if (info.channels !== channels) throw new Error(`it has ${info.channels} channels instead of ${channels}`);
    return { data, height: info.height, width: info.width };
  } catch (cause) {
    throw new Q8Error(
      'ERR_Q8_INVALID_ARGUMENT',
      `The picture ${JSON.stringify(path)} cannot be read: ${(cause as Error).message}.`,
      { cause },
    );
  }
}

function arrange(
  data: Uint8Array,
  channels: number,
  pixels: number,
  layout: 'nchw' | 'nhwc',
  color: 'rgb' | 'bgr',
): Uint8Array {
  const arranged = new Uint8Array(data.length);
  const [pixelStep, channelStep] = layout === 'nchw' ? [1, pixels] : [channels, 1];
  for (let c = 0; c < channels; c++) {
    const to = color === 'bgr' && channels >= 3 && c < 3 ? 2 - c : c;
    for (let i = 0; i < pixels; i++) arranged[i * pixelStep + to * channelStep] = data[i * channels + c];
  }
  return arranged;
}

/** What is used of sharp. Declared here: q8 compiles without it. */
interface SharpImage {
  rotate(): SharpImage;
  resize(options: { height?: number; width?: number; fit: string; background: object }): SharpImage;
  ensureAlpha(): SharpImage;
  flatten(options: { background: string }): SharpImage;
  toColourspace(name: string): SharpImage;
  raw(options: { depth: string }): SharpImage;
  toBuffer(options: {
    resolveWithObject: true;
  }): Promise<{ data: Uint8Array; info: { channels: number; height: number; width: number } }>;
}

async function load(): Promise<(path: string) => SharpImage> {
  const name = 'sharp';
  try {
    return ((await import(name)) as { default: (path: string) => SharpImage }).default;
  } catch (cause) {
    throw new Q8Error('ERR_Q8_INVALID_ARGUMENT', 'Pictures need the package sharp, which cannot be loaded.', {
      hint: 'run "npm install sharp", or give arrays (.npy, .npz) instead.',
      cause,
    });
  }
}
