/** Attributes of a node: typed values with getters that refuse the wrong type, so that operators need no checks of their own. */
import { Q8Error } from '../errors';
import type { Tensor } from '../tensor/tensor';
import type { Graph } from './graph';

interface AttributeValues {
  int: number;
  float: number;
  string: string;
  tensor: Tensor;
  graph: Graph;
  ints: number[];
  floats: number[];
  strings: string[];
  tensors: Tensor[];
  graphs: Graph[];
}

type Kind = keyof AttributeValues;
export type Attribute = { [K in Kind]: { kind: K; value: AttributeValues[K] } }[Kind];

/** Plain values accepted when a pass makes a node: see {@link Attributes.of}. */
export type AttributeInit = Record<string, Attribute | undefined>;

const NO_BODIES: readonly Graph[] = [];

export class Attributes {
  readonly #map: Map<string, Attribute>;
  /** Found when first asked for: several passes ask every node. */
  #bodies: readonly Graph[] | null = null;
  /** Name of the node, for messages. */
  readonly #where: string;

  constructor(where: string, entries: Iterable<[string, Attribute]> = []) {
    this.#where = where;
    this.#map = new Map(entries);
  }

  static of(where: string, init: AttributeInit = {}): Attributes {
    return new Attributes(
      where,
      Object.entries(init).filter((entry): entry is [string, Attribute] => entry[1] !== undefined),
    );
  }

  has(name: string): boolean {
    return this.#map.has(name);
  }

  get(name: string): Attribute | undefined {
    return this.#map.get(name);
  }

  set(name: string, attribute: Attribute): void {
    this.#map.set(name, attribute);
    this.#bodies = null;
  }

  delete(name: string): void {
    this.#map.delete(name);
    this.#bodies = null;
  }

  /** The graphs among the values. */
  get bodies(): readonly Graph[] {
    this.#bodies ??= this.#findBodies();
    return this.#bodies;
  }

  #findBodies(): readonly Graph[] {
    let bodies = NO_BODIES;
    for (const attribute of this.#map.values()) {
      if (attribute.kind === 'graph') bodies = [...bodies, attribute.value];
      else if (attribute.kind === 'graphs') bodies = [...bodies, ...attribute.value];
    }
    return bodies;
  }

  entries(): IterableIterator<[string, Attribute]> {
    return this.#map.entries();
  }

  int(name: string): number | undefined;
  int(name: string, fallback: number): number;
  int(name: string, fallback?: number): number | undefined {
    return this.#typed(name, 'int') ?? fallback;
  }

  float(name: string): number | undefined;
  float(name: string, fallback: number): number;
  float(name: string, fallback?: number): number | undefined {
    return this.#typed(name, 'float') ?? fallback;
  }

  string(name: string): string | undefined;
  string(name: string, fallback: string): string;
  string(name: string, fallback?: string): string | undefined {
    return this.#typed(name, 'string') ?? fallback;
  }

  ints(name: string): number[] | undefined {
    return this.#typed(name, 'ints');
  }

  floats(name: string): number[] | undefined {
    return this.#typed(name, 'floats');
  }

  strings(name: string): string[] | undefined {
    return this.#typed(name, 'strings');
  }

  tensor(name: string): Tensor | undefined {
    return this.#typed(name, 'tensor');
  }

  graph(name: string): Graph | undefined {
    return this.#typed(name, 'graph');
  }

  #typed<K extends Kind>(name: string, kind: K): AttributeValues[K] | undefined {
    const attribute = this.#map.get(name);
    if (!attribute) return undefined;
    if (attribute.kind !== kind) {
      // An exporter may write an empty list without a type; every list kind may stand for it.
      if (Array.isArray(attribute.value) && attribute.value.length === 0 && kind.endsWith('s'))
        return [] as unknown as AttributeValues[K];
      throw new Q8Error(
        'ERR_Q8_BAD_MODEL',
        `Expected ${kind} for attribute "${name}" of ${this.#where} but received ${attribute.kind}.`,
        { node: this.#where },
      );
    }
    return attribute.value as AttributeValues[K];
  }
}
