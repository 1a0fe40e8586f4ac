/** What readers are told of a model's inputs, and how bytes become the numbers that an input takes. */
import { expected, Q8Error } from '../errors';
import type { Tensor } from '../tensor/tensor';

/** An input as a session describes it (`inputMetadata`): symbolic dimensions are strings. */
export interface InputSpec {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

/** A tensor for every input of a model. */
export type Feed = Record<string, Tensor>;

/** How bytes become float32: (x / 255 - mean[c]) / std[c], with one value or one per channel. */
export interface Normalization {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Bytes as float32. `data` has runs of `inner` elements of each of `channels` channels in turn. */
export function normalize(
  data: Uint8Array,
  channels: number,
  inner: number,
  { mean, std }: Normalization,
): Float32Array<ArrayBuffer> {
  if (![mean, std].every((values) => values.length === 1 || values.length === channels)) {
    throw expected(`1 or ${channels} values`, 'mean and std', `${mean.length} and ${std.length}`);
  }
  const result = new Float32Array(data.length);
  for (let i = 0, channel = 0; i < data.length; channel = (channel + 1) % channels) {
    const [shift, scale] = [mean[channel % mean.length], std[channel % std.length]];
    for (const end = i + inner; i < end; i++) result[i] = (data[i] / 255 - shift) / scale;
  }
  return result;
}

/** That nobody said what bytes mean. */
export function needsNormalization(path: string, input: InputSpec): Q8Error {
  return new Q8Error(
    'ERR_Q8_INVALID_ARGUMENT',
    `${path} holds bytes; the input ${JSON.stringify(input.name)} takes float32.`,
    {
      hint: 'say how pixels become numbers: a mean of 0.5 and a std of 0.5 (--mean 0.5 --std 0.5) give (x / 255 - 0.5) / 0.5.',
    },
  );
}
