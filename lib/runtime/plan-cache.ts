import type { Slices } from './slices';

/** Least-recently-used cache of plans. What falls out, or is cleared, is given to `evict` once. */
export class PlanCache<T> {
  readonly #limit: number;
  readonly #evict: (plan: T) => void;
  /** In order of use: a Map iterates in the order of insertion. */
  readonly #plans = new Map<string, T>();
  /** Plans that are being made: whoever needs one goes on with it. */
  readonly #making = new Map<string, Slices<T>>();

  constructor(limit: number, evict: (plan: T) => void) {
    this.#limit = limit;
    this.#evict = evict;
  }

  get size(): number {
    return this.#plans.size;
  }

  /** The plan for `key`, made when it is not there. Several callers may be at it at once; it is made once. */
  *get(key: string, make: () => Slices<T>): Slices<T> {
    for (;;) {
      const found = this.#plans.get(key);
      if (found !== undefined) {
        this.#plans.delete(key);
        this.#plans.set(key, found);
        return found;
      }
      const making = this.#making.get(key) ?? make();
      this.#making.set(key, making);
      let next: IteratorResult<void, T>;
      try {
        next = making.next();
      } catch (error) {
        this.#making.delete(key);
        throw error;
      }
      if (next.done) {
        this.#making.delete(key);
        return this.#add(key, next.value);
      }
      yield;
    }
  }

  #add(key: string, plan: T): T {
    this.#plans.set(key, plan);
    for (const [oldest, stale] of this.#plans) {
      if (this.#plans.size <= this.#limit) break;
      this.#plans.delete(oldest);
      this.#evict(stale);
    }
    return plan;
  }

  /** The plan used last. */
  get latest(): T | undefined {
    return [...this.#plans.values()].at(-1);
  }

  clear(): void {
    for (const plan of this.#plans.values()) this.#evict(plan);
    this.#plans.clear();
    this.#making.clear();
  }
}
