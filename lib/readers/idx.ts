/** IDX files, the format of MNIST and its kin: big-endian header, then bytes. Plain or gzip'd. */
import { gunzipSync } from 'node:zlib';
import { expected } from '../errors';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';

const UINT8 = 0x08;

/** Parses an IDX file of unsigned bytes, unpacking gzip. @throws ERR_Q8_INVALID_ARGUMENT when it is not one. */
export function parseIdx(bytes: Uint8Array, name: string): Tensor<'uint8'> {
  const data = bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzip(bytes, name) : bytes;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const rank = data[3];
  if (data.length < 4 || data[0] !== 0 || data[1] !== 0 || data[2] !== UINT8 || data.length < 4 + 4 * rank) {
    throw expected('an IDX file of unsigned bytes', name, `${data.length} bytes of something else`);
  }
  const dims = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const start = 4 + 4 * rank;
  if (data.length - start !== sizeOf(dims)) {
    throw expected(
      `${sizeOf(dims)} bytes of data for the shape [${dims.join(', ')}]`,
      name,
      `${data.length - start} bytes`,
    );
  }
  return new Tensor('uint8', new Uint8Array(data.subarray(start)), dims);
}

function gunzip(bytes: Uint8Array, name: string): Uint8Array {
  try {
    return gunzipSync(bytes);
  } catch (cause) {
    throw expected('undamaged gzip data', name, (cause as Error).message, { cause });
  }
}
