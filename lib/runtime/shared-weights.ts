/**
 * Packed weights, shared by all plans and sessions of the process, in all its worker threads: two sessions of one model, or
 * of two models with a common backbone, hold one copy. Entries are found by content.
 */
import { createHash } from 'node:crypto';
import type { PackedWeights } from '../../binding';
import { loadBinding } from '../binding/load';
import type { Tensor } from '../tensor/tensor';

interface Entry {
  readonly value: PackedWeights;
  /** Leases that hold it. */
  holders: number;
}

const entries = new Map<string, Entry>();
const digests = new WeakMap<Tensor, string>();

/** Name of a tensor's content. Hashes the data (about 1 GB/s) the first time that this tensor object is seen. */
function digestOf(tensor: Tensor): string {
  let digest = digests.get(tensor);
  if (digest === undefined) {
    const { buffer, byteOffset, byteLength } = tensor.data as Uint8Array;
    const hash = createHash('sha256').update(new Uint8Array(buffer, byteOffset, byteLength));
    digest = `${tensor.type}[${tensor.dims.join()}]${hash.digest('base64')}`;
    digests.set(tensor, digest);
  }
  return digest;
}

/** What another thread has packed, or what `make` packs for all of them. */
function findOrShare(name: string, make: () => PackedWeights): PackedWeights {
  const addon = loadBinding();
  const found = addon.findWeights(name);
  if (found) return found;
  const made = make();
  addon.shareWeights(name, made);
  return made;
}

/** One session's claim on shared weights. What no lease holds any more is freed. */
export class WeightLease {
  readonly #held = new Map<string, Entry>();

  /** The weights made of `tensor` for the use `key`; `make` runs when nobody in the process has them yet. */
  get<T extends PackedWeights>(tensor: Tensor, key: string, make: () => T): T {
    const name = `${key}|${digestOf(tensor)}`;
    let entry = this.#held.get(name);
    if (!entry) {
      entry = entries.get(name);
      if (!entry) {
        entry = { value: findOrShare(name, make), holders: 0 };
        entries.set(name, entry);
      }
      entry.holders++;
      this.#held.set(name, entry);
    }
    return entry.value as T;
  }

  /** Gives everything back. Idempotent. */
  release(): void {
    for (const [name, entry] of this.#held) {
      if (--entry.holders > 0) continue;
      entries.delete(name);
      entry.value.release();
    }
    this.#held.clear();
  }
}

/** How many packed weights this thread holds. */
export function sharedWeightCount(): number {
  return entries.size;
}
