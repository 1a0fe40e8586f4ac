/** NumPy's .npz files: zip archives of .npy members, stored or deflated. Reads only what that needs of the zip format. */
import { inflateRawSync } from 'node:zlib';
import { expected } from '../errors';
import type { Tensor } from '../tensor/tensor';
import { parseNpy } from './npy';

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const STORED = 0;
const DEFLATED = 8;

/** The arrays of an .npz file by name (without ".npy"). @throws ERR_Q8_INVALID_ARGUMENT when it is not one. */
export function parseNpz(bytes: Uint8Array, name: string): Map<string, Tensor> {
  const zip = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEndOfDirectory(zip);
  if (end < 0) throw expected('an .npz file (a zip archive)', name, 'something else');
  const arrays = new Map<string, Tensor>();
  try {
    let at = zip.readUInt32LE(end + 16);
    for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
      if (zip.readUInt32LE(at) !== DIRECTORY_ENTRY) throw new RangeError('no directory entry');
      const nameLength = zip.readUInt16LE(at + 28);
      const member = zip.toString('utf8', at + 46, at + 46 + nameLength);
      const data = unpack(zip, at);
      arrays.set(member.replace(/\.npy$/, ''), parseNpy(data, `${name}, member ${member}`));
      at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
    }
  } catch (error) {
    // Offsets out of the file and damaged streams; errors of parseNpy say more than we could.
    if (!(error instanceof RangeError || (error instanceof Error && 'errno' in error))) throw error;
    throw expected('an undamaged .npz file below 4 GB', name, error.message, { cause: error });
  }
  return arrays;
}

/** The record stands at the end, before a comment of at most 64 KiB. */
function findEndOfDirectory(zip: Buffer): number {
  for (let at = zip.length - 22; at >= Math.max(0, zip.length - 65557); at--) {
    if (zip.readUInt32LE(at) === END_OF_DIRECTORY) return at;
  }
  return -1;
}

/** The data of the member whose directory entry is at `entry`. */
function unpack(zip: Buffer, entry: number): Uint8Array {
  const method = zip.readUInt16LE(entry + 10);
  const packedSize = zip.readUInt32LE(entry + 20);
  const size = zip.readUInt32LE(entry + 24);
  const local = zip.readUInt32LE(entry + 42);
  // The lengths of name and extra field may differ from those of the directory.
  const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
  if (start + packedSize > zip.length) throw new RangeError('a member reaches beyond the end of the file');
  const packed = zip.subarray(start, start + packedSize);
  if (method === STORED) return packed;
  if (method !== DEFLATED) throw new RangeError(`compression method ${method}`);
  return inflateRawSync(packed, { maxOutputLength: Math.max(1, size) });
}
