/** Which nodes of a model to quantize: selectors by name, pattern, operator type, region or function, and what they match. */
import { didYouMean, expected } from '../errors';
import { nodesOf } from '../graph/bodies';
import { type Graph, type Node, subgraphsOf, type Value } from '../graph/graph';

/** What a selector function is told about a node. */
export interface NodeDescription {
  name: string;
  opType: string;
  /** '' is ai.onnx. */
  domain: string;
  /** Names of the tensors; optional ones that are left out are empty. */
  inputs: readonly string[];
  outputs: readonly string[];
}

/** Nodes on the paths from the tensors `from` (default: the model's inputs) to the tensors `to` (default: its outputs). */
export interface RegionSelector {
  from?: string | readonly string[];
  to?: string | readonly string[];
}

/**
 * Selects nodes. A string is a name; when no node has it, `*` in it stands for any characters and `?` for one. A RegExp is
 * searched for in names. `{ opType }` takes all nodes of a type, `{ from, to }` those between tensors.
 */
export type NodeSelector = string | RegExp | { opType: string } | RegionSelector | ((node: NodeDescription) => boolean);

/** The options `include` and `exclude`, checked. */
export interface SelectionOptions {
  include: readonly NodeSelector[] | undefined;
  exclude: readonly NodeSelector[];
  /** Whether bodies of control flow take part. */
  subgraphs: boolean;
}

type OptionName = 'include' | 'exclude';

/** The list in one of the options. @throws ERR_Q8_INVALID_ARGUMENT */
export function checkSelectors(option: OptionName, given: unknown): readonly NodeSelector[] | undefined {
  if (given === undefined) return undefined;
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (list.length === 0 && option === 'include') {
    throw expected('at least one selector', 'the option include', 'none', {
      hint: 'leave the option out to select everything.',
    });
  }
  for (const selector of list) if (!isSelector(selector)) throw expected(RULE, `the option ${option}`, selector);
  return list as readonly NodeSelector[];
}

const RULE = 'a name, a pattern with * or ?, a RegExp, { opType }, { from, to } or a function';

function isSelector(value: unknown): value is NodeSelector {
  if (typeof value === 'string') return value !== '';
  if (typeof value === 'function' || value instanceof RegExp) return true;
  if (value === null || typeof value !== 'object') return false;
  const entries = Object.entries(value);
  if ('opType' in value) return entries.length === 1 && typeof value.opType === 'string';
  const isNames = (names: unknown): boolean =>
    typeof names === 'string' ||
    (Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === 'string'));
  return entries.length > 0 && entries.every(([key, names]) => (key === 'from' || key === 'to') && isNames(names));
}

/** A selector with the names of the nodes that it matches. */
interface Matcher {
  option: OptionName;
  selector: NodeSelector;
  label: string;
  /** In the model as it was read. */
  read: Set<string>;
  /** In the model that is quantized. */
  found: Set<string>;
}

/**
 * The selection for one model. Preparation folds and fuses nodes, so selectors see the model twice: as it was read, where
 * the names and tensors are those that users know, and as it is quantized.
 */
export class Selection {
  readonly #include: readonly Matcher[] | undefined;
  readonly #exclude: readonly Matcher[];
  readonly #subgraphs: boolean;
  /** Names of nodes in bodies, when these are to stay in float. */
  readonly #inBodies = new Set<string>();

  /** @param graph the model as it was read. */
  constructor({ include, exclude, subgraphs }: SelectionOptions, graph: Graph) {
    const matchers = (option: OptionName, list: readonly NodeSelector[]): Matcher[] =>
      list.map((selector) => ({
        option,
        selector,
        label: labelOf(selector),
        read: matches(graph, option, selector),
        found: new Set(),
      }));
    this.#include = include && matchers('include', include);
    this.#exclude = matchers('exclude', exclude);
    this.#subgraphs = subgraphs;
  }

  /** @param graph the prepared model. @throws ERR_Q8_INVALID_ARGUMENT when a selector matches no node of either. */
  apply(graph: Graph, asRead: readonly Node[]): void {
    for (const matcher of [...(this.#include ?? []), ...this.#exclude]) {
      const { option, selector } = matcher;
      // A region was resolved on the tensors that users know; its nodes keep their names.
      matcher.found = isRegion(selector) ? matcher.read : matches(graph, option, selector);
      if (matcher.read.size + matcher.found.size === 0) refuse(matcher, [...asRead, ...nodesOf(graph)]);
    }
    if (this.#subgraphs) return;
    for (const node of nodesOf(graph)) if (!graph.nodes.has(node)) this.#inBodies.add(node.name);
  }

  /** Why the node is not to be quantized; undefined when it is. */
  refusal({ name }: Node): string | undefined {
    if (this.#inBodies.has(name)) return 'it is in a body of control flow, and subgraphs is false';
    const excluded = this.#exclude.find(({ found }) => found.has(name));
    if (excluded) return `excluded by ${excluded.label}`;
    if (this.#include && !this.#include.some(({ found }) => found.has(name))) return 'not included';
    return undefined;
  }
}

function isRegion(selector: NodeSelector): selector is RegionSelector {
  return typeof selector === 'object' && !(selector instanceof RegExp) && !('opType' in selector);
}

function labelOf(selector: NodeSelector): string {
  if (typeof selector === 'string') return JSON.stringify(selector);
  if (typeof selector === 'function') return selector.name ? `the function ${selector.name}` : 'a function';
  if (selector instanceof RegExp) return String(selector);
  if ('opType' in selector) return `operator type ${selector.opType}`;
  const side = (names: string | readonly string[] | undefined): string => [names ?? []].flat().join(', ');
  return `the region from ${side(selector.from) || 'the inputs'} to ${side(selector.to) || 'the outputs'}`;
}

/** Names of the nodes of a graph and its bodies that a selector matches. Linear. */
function matches(graph: Graph, option: OptionName, selector: NodeSelector): Set<string> {
  const nodes = [...nodesOf(graph)];
  const where = (test: (node: Node) => boolean): Set<string> =>
    new Set(nodes.filter((node) => test(node)).map(({ name }) => name));
  if (typeof selector === 'string') {
    const exact = where(({ name }) => name === selector);
    if (exact.size > 0 || !/[*?]/.test(selector)) return exact;
    const glob = globToRegExp(selector);
    return where(({ name }) => glob.test(name));
  }
  if (typeof selector === 'function') {
    return where((node) => {
      const answer: unknown = selector(describe(node));
      if (typeof answer === 'boolean') return answer;
      throw expected('true or false', `the result of a function in the option ${option}`, answer);
    });
  }
  if (selector instanceof RegExp) {
    // Neither g nor y: they would make a test depend on the one before.
    const pattern = new RegExp(selector.source, selector.flags.replace(/[gy]/g, ''));
    return where(({ name }) => pattern.test(name));
  }
  if ('opType' in selector) return where(({ op }) => op === selector.opType);
  return regionOf(graph, option, selector);
}

function describe({ name, op, domain, inputs, outputs }: Node): NodeDescription {
  const names = (values: readonly (Value | null)[]): string[] => values.map((value) => value?.name ?? '');
  return { name, opType: op, domain, inputs: names(inputs), outputs: names(outputs) };
}

function globToRegExp(glob: string): RegExp {
  const source = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 's');
}

/** Nodes that both depend on `from` and are needed for `to`, with what is in their bodies. Linear. */
function regionOf(graph: Graph, option: OptionName, { from, to }: RegionSelector): Set<string> {
  const tensors = new Map<string, Value>();
  for (const value of [...graph.inputs, ...graph.outputs]) tensors.set(value.name, value);
  for (const { inputs, outputs } of graph.nodes)
    for (const value of [...inputs, ...outputs]) if (value) tensors.set(value.name, value);
  const valuesOf = (names: string | readonly string[] | undefined, otherwise: readonly Value[]): readonly Value[] =>
    names === undefined
      ? otherwise
      : [names].flat().map((name) => {
          const value = tensors.get(name);
          if (value) return value;
          throw expected('the name of a tensor of the model', `the option ${option}`, name, {
            hint: hintFor(name, tensors.keys()),
          });
        });
  // A node with bodies reads what they read.
  const owners = new Map<Node, Node>();
  for (const node of graph.nodes) {
    for (const body of subgraphsOf(node)) for (const inner of nodesOf(body)) owners.set(inner, node);
  }
  const forward = reach(
    valuesOf(from, graph.inputs),
    (value) => value.consumers.map((node) => owners.get(node) ?? node),
    ({ outputs }) => outputs,
  );
  const backward = reach(
    valuesOf(to, graph.outputs),
    (value) => (value.producer ? [value.producer] : []),
    (node) => [...node.inputs, ...graph.capturedBy(node)],
  );
  const found = [...forward].filter((node) => backward.has(node));
  const bodies = found.flatMap(subgraphsOf).flatMap((body) => [...nodesOf(body)]);
  return new Set([...found, ...bodies].map(({ name }) => name));
}

function reach(
  start: readonly Value[],
  nodesAt: (value: Value) => readonly Node[],
  next: (node: Node) => readonly (Value | null)[],
): Set<Node> {
  const seen = new Set<Node>();
  const open = [...start];
  for (let value = open.pop(); value; value = open.pop()) {
    for (const node of nodesAt(value)) {
      if (seen.has(node)) continue;
      seen.add(node);
      for (const other of next(node)) if (other) open.push(other);
    }
  }
  return seen;
}

function hintFor(word: string, candidates: Iterable<string>): string {
  const close = didYouMean(word, candidates);
  return close
    ? `did you mean ${JSON.stringify(close)}?`
    : `the model has none that is close to ${JSON.stringify(word)}.`;
}

/** Says that a selector matches nothing, and what was perhaps meant. */
function refuse({ option, selector, label }: Matcher, nodes: readonly Node[]): never {
  // Nobody looks for constants, and they come first.
  const names = nodes.flatMap(({ op, name }) => (op === 'Constant' ? [] : [name]));
  const where = `the option ${option}`;
  if (typeof selector === 'string') {
    const isGlob = /[*?]/.test(selector);
    throw expected(`the name of a node of the model${isGlob ? ', or a pattern that fits one,' : ''}`, where, selector, {
      hint: isGlob ? exampleOf(names) : hintFor(selector, names),
    });
  }
  if (typeof selector === 'object' && 'opType' in selector) {
    const { opType } = selector;
    throw expected('an operator type that the model uses', where, opType, {
      hint: hintFor(opType, new Set(nodes.map(({ op }) => op))),
    });
  }
  throw expected('a selector that matches a node', where, label, {
    hint: isRegion(selector) ? 'no node lies on a path between these tensors.' : exampleOf(names),
  });
}

function exampleOf(names: readonly string[]): string {
  return `names in the model look like ${[...new Set(names)]
    .slice(0, 3)
    .map((name) => JSON.stringify(name))
    .join(', ')}.`;
}
