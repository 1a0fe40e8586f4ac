/** What a quantizer has made of tensors, as the digests that scripts/make-ort-quantizer-fixtures.py writes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Tensor } from '../../lib/tensor/tensor';
import { readGraph } from './run-graph';

/** By tensor. */
export type Digests = Record<string, string>;

/** As scripts/make-ort-quantizer-fixtures.py has it. */
function digest(constants: ReadonlyMap<string, Tensor>, base: string, withScale: boolean): string | undefined {
  const isBias = base.endsWith('_quantized');
  const codes = constants.get(isBias ? base : `${base}_quantized`);
  const hash = createHash('sha256');
  const bytes = ({ data }: Tensor) => {
    const { buffer, byteOffset, byteLength } = data as Uint8Array;
    return new Uint8Array(buffer, byteOffset, byteLength);
  };
  if (withScale) {
    const [scale, zeroPoint] = [constants.get(`${base}_scale`), constants.get(`${base}_zero_point`)];
    if (!scale || !zeroPoint) return undefined;
    // MatMulInteger takes one zero point for all columns where they are the same.
    const zeros = [...(zeroPoint.data as Int8Array)];
    const spread = zeros.length === 1 ? new Array<number>(scale.size).fill(zeros[0]) : zeros;
    hash
      .update(`${zeroPoint.type}|`)
      .update(bytes(scale))
      .update(`|${spread.join(',')}`);
  } else {
    if (!codes) return undefined;
    hash.update(codes.type);
  }
  if (codes) hash.update('|').update(bytes(codes));
  return hash.digest('hex').slice(0, 8);
}

export function constantsOf(model: Uint8Array): Map<string, Tensor> {
  return new Map(
    readGraph(model)
      .constants()
      .map(({ name, constant }) => [name, constant!]),
  );
}

/** Asserts that every tensor that the tool quantized has the same bits here. */
export function assertSame(
  constants: ReadonlyMap<string, Tensor>,
  expected: Digests,
  isQdq: boolean,
  renamed: Record<string, string>,
): void {
  const wrong = Object.entries(expected).flatMap(([base, bits]) => {
    const withScale = isQdq || !base.endsWith('_quantized');
    const got = digest(constants, base, withScale) ?? digest(constants, renamed[base] ?? base, withScale);
    return got === bits ? [] : [`${base}: ${got}`];
  });
  assert.deepEqual(wrong, []);
}
