/** Checks of the integers in kernel options. */
import type { Codes } from '../../binding';
import { expected } from '../errors';

/** A matrix dimension: an integer from 0 up. */
export function checkDimension(value: unknown, name: string): asserts value is number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw expected('an integer >= 0', name, value);
}

/** The leading dimension: elements between rows, at least the `columns` of a row. Absent means dense. */
export function leadingDimension(value: unknown, columns: number, name: string): number {
  if (value === undefined) return columns;
  if (!Number.isSafeInteger(value) || (value as number) < columns)
    throw expected(`an integer >= ${columns}`, name, value);
  return value as number;
}

/** Elements that a row-major matrix spans. */
export function matrixSpan(rows: number, columns: number, ld: number): number {
  return rows === 0 || columns === 0 ? 0 : (rows - 1) * ld + columns;
}

/** Elements between the matrices of a batch. Absent means dense. */
export function batchStride(value: unknown, dense: number, name: string): number {
  if (value === undefined) return dense;
  checkDimension(value, name);
  return value;
}

/** Elements that a batch of matrices of `span` elements spans. */
export function batchSpan(batch: number, stride: number, span: number): number {
  return batch === 0 || span === 0 ? 0 : (batch - 1) * stride + span;
}

/** An integer inside the range of an 8-bit type. */
export function checkCode(value: unknown, isSigned: boolean, name: string): asserts value is number {
  const low = isSigned ? -128 : 0;
  const high = isSigned ? 127 : 255;
  if (Number.isInteger(value) && (value as number) >= low && (value as number) <= high) return;
  throw expected(`an integer from ${low} to ${high} (${isSigned ? 'int8' : 'uint8'})`, name, value);
}

/** Zero points of B as an array of B's type with one element, or one per column; null when there are none. */
export function zeroPointCodes(
  value: number | Codes | undefined,
  b: Codes,
  columns: number,
  name: string,
): Codes | null {
  if (value === undefined) return null;
  const isSigned = b instanceof Int8Array;
  if (typeof value === 'number') {
    checkCode(value, isSigned, name);
    return isSigned ? Int8Array.of(value) : Uint8Array.of(value);
  }
  if (!(isSigned ? value instanceof Int8Array : value instanceof Uint8Array)) {
    throw expected(`a number or ${isSigned ? 'an Int8Array' : 'a Uint8Array'}, the type of b,`, name, value);
  }
  if (value.length !== columns) {
    throw expected(`${columns} elements, one per column,`, name, value, { code: 'ERR_Q8_SHAPE_MISMATCH' });
  }
  return value;
}
