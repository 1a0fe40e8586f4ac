/** Two 4-bit elements in a byte, the first in the low half: how ONNX files store int4 and uint4. */

/** Packs elements, of which the low four bits count; an odd number of them is filled up with 0. */
export function packNibbles(elements: Int8Array | Uint8Array): Uint8Array {
  const packed = new Uint8Array(Math.ceil(elements.length / 2));
  for (let i = 0; i < elements.length; i++) packed[i >> 1] |= (elements[i] & 15) << ((i & 1) * 4);
  return packed;
}

/** The first `size` elements, a byte each. */
export function unpackNibbles(packed: Uint8Array, dtype: 'int4' | 'uint4', size: number): Int8Array | Uint8Array {
  const elements = dtype === 'int4' ? new Int8Array(size) : new Uint8Array(size);
  const unused = dtype === 'int4' ? 28 : 0;
  for (let i = 0; i < size; i++) {
    const code = (packed[i >> 1] >> ((i & 1) * 4)) & 15;
    elements[i] = (code << unused) >> unused;
  }
  return elements;
}
