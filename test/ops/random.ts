/** Reproducible random tensors. */
import type { QuantizedDType } from '../../lib/tensor/dtype';
import { codeRange } from '../../lib/tensor/dtype';
import { sizeOf } from '../../lib/tensor/shape';
import { Tensor } from '../../lib/tensor/tensor';

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** In [0, 1). */
  next(): number {
    // xorshift32
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) / 2 ** 32;
  }

  /** An integer in [low, high]. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  floats(dims: readonly number[], low = -1, high = 1): Tensor<'float32'> {
    return new Tensor(
      'float32',
      Float32Array.from({ length: sizeOf(dims) }, () => low + this.next() * (high - low)),
      dims,
    );
  }

  codes(dtype: QuantizedDType, dims: readonly number[], [low, high] = codeRange(dtype)): Tensor {
    const values = Array.from({ length: sizeOf(dims) }, () => this.int(low, high));
    return new Tensor<QuantizedDType>(dtype, values, dims);
  }

  ints(dims: readonly number[], low: number, high: number): Tensor<'int32'> {
    return new Tensor(
      'int32',
      Array.from({ length: sizeOf(dims) }, () => this.int(low, high)),
      dims,
    );
  }
}

export function scale(value: number | readonly number[]): Tensor<'float32'> {
  return typeof value === 'number' ? new Tensor('float32', [value], []) : new Tensor('float32', value);
}

export function zeroPoint(dtype: QuantizedDType, value: number | readonly number[]): Tensor {
  return typeof value === 'number'
    ? new Tensor<QuantizedDType>(dtype, [value], [])
    : new Tensor<QuantizedDType>(dtype, value);
}
