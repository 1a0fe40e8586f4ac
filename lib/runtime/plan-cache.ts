/** Least-recently-used cache of plans. What falls out, or is cleared, is given to `evict` once. */
export class PlanCache<T> {
  readonly #limit: number;
  readonly #evict: (plan: T) => void;
  /** In order of use: a Map iterates in the order of insertion. */
  readonly #plans = new Map<string, T>();

  constructor(limit: number, evict: (plan: T) => void) {
    this.#limit = limit;
    this.#evict = evict;
  }

  get size(): number {
    return this.#plans.size;
  }

  /** The plan for `key`, made when it is not there. */
  get(key: string, make: () => T): T {
    const found = this.#plans.get(key);
    const plan = found ?? make();
    if (found !== undefined) this.#plans.delete(key);
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
  }
}
