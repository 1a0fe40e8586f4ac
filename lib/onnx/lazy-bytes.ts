/** Raw bytes of tensors that stay where they are until somebody asks, so that a model need not fit in memory as a whole. */
import type { TensorProto } from './proto';

export interface LazyBytes {
  readonly byteLength: number;
  /** Fetches the bytes, anew each time. @throws ERR_Q8_BAD_MODEL when their file has gone or changed. */
  read(): Uint8Array;
}

const lazyBytes = new WeakMap<TensorProto, LazyBytes>();

/** Stands for the message's raw_data, which must be absent. */
export function setLazyBytes(tensor: TensorProto, bytes: LazyBytes): void {
  lazyBytes.set(tensor, bytes);
}

/** What {@link setLazyBytes} has set for this very message. */
export function lazyBytesOf(tensor: TensorProto): LazyBytes | undefined {
  return lazyBytes.get(tensor);
}

/** Bytes of the message's raw data, fetched or not. */
export function rawSizeOf(tensor: TensorProto): number {
  return lazyBytes.get(tensor)?.byteLength ?? tensor.rawData?.byteLength ?? 0;
}
