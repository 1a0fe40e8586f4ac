/**
 * Checks of user-supplied typed arrays before native code gets their addresses: exact type, enough elements, memory that
 * cannot move or vanish.
 */
import type { Codes } from '../../binding';
import { expected, Q8Error } from '../errors';

type NumericArray = Codes | Int32Array | Float32Array;

/** Uint8Array or Int8Array with stable memory. */
export function checkCodes(array: unknown, name: string): asserts array is Codes {
  if (!(array instanceof Uint8Array) && !(array instanceof Int8Array)) {
    throw expected('a Uint8Array or Int8Array', name, array);
  }
  checkStable(array, name);
}

/** An array of exactly the class `type`, with stable memory. */
export function checkArray<T extends NumericArray>(
  array: unknown,
  type: new (length: number) => T,
  name: string,
): asserts array is T {
  if (!(array instanceof type)) throw expected(`a ${type.name}`, name, array);
  checkStable(array, name);
}

/** Exactly `length` elements. */
export function checkLength(array: NumericArray, length: number, name: string): void {
  if (array.length === length) return;
  throw expected(`${length} elements`, name, array, { code: 'ERR_Q8_SHAPE_MISMATCH' });
}

/** Refuses memory that JavaScript can resize or has given away while native code works on it. */
function checkStable(array: NumericArray, name: string): void {
  const buffer = array.buffer as ArrayBufferLike & { resizable?: boolean; growable?: boolean };
  if (buffer.resizable || buffer.growable) {
    throw expected('an array whose buffer has a fixed length', name, array, {
      hint: 'Copy the data into an array of its own, with .slice().',
    });
  }
  if (array.length === 0 && isDetached(buffer)) {
    throw new Q8Error('ERR_Q8_DETACHED_BUFFER', `Expected an attached buffer for ${name} but its buffer is detached.`, {
      hint: 'It was transferred, to a worker for instance. Pass a copy to the worker, or share the memory.',
    });
  }
}

/** ArrayBuffer.prototype.detached is younger than Node 20; a view of a detached buffer cannot be made. */
function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}
