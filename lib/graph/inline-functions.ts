/**
 * Replaces calls of model-local functions by their bodies, so that the rest of q8 meets operators only. Works on
 * messages, before names become references: a body is copied with every name of its own made distinct.
 */
import { Q8Error } from '../errors';
import {
  type AttributeProto,
  domainOf,
  type FunctionProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type OperatorSetIdProto,
  toSafeInteger,
} from '../onnx/proto';

/** Functions may call functions; both limits stop a small file from growing without end. */
const MAX_DEPTH = 100;
const MAX_NODES = 200_000;

/**
 * The model without functions; the same object when it has none.
 * @throws ERR_Q8_BAD_MODEL for calls that nest too deep or grow too large, ERR_Q8_UNSUPPORTED_OP for a function that
 * needs another version of an operator set than the model
 */
export function inlineFunctions(model: ModelProto): ModelProto {
  const functions = model.functions ?? [];
  if (functions.length === 0) return model;
  const inliner = new Inliner(functions, model.opsetImport ?? []);
  const graph = inliner.graph(model.graph ?? {}, 0);
  return { ...model, graph, functions: [], opsetImport: inliner.opsets };
}

function keyOf(
  domain: string | null | undefined,
  name: string | null | undefined,
  overload: string | null | undefined,
): string {
  return JSON.stringify([domain ?? '', name ?? '', overload ?? '']);
}

/** What stands for a name of a function body in one call of it. */
type Rename = (name: string) => string;

class Inliner {
  readonly opsets: OperatorSetIdProto[];
  readonly #functions: Map<string, FunctionProto>;
  /** How often a prefix was asked for. */
  readonly #prefixes = new Map<string, number>();
  #nodes = 0;

  constructor(functions: readonly FunctionProto[], opsets: readonly OperatorSetIdProto[]) {
    this.#functions = new Map(functions.map((each) => [keyOf(each.domain, each.name, each.overload), each]));
    this.opsets = [...opsets];
  }

  graph(graph: GraphProto, depth: number): GraphProto {
    return { ...graph, node: this.#expand(graph.node ?? [], depth) };
  }

  #expand(nodes: readonly NodeProto[], depth: number): NodeProto[] {
    const expanded: NodeProto[] = [];
    for (const node of nodes) {
      const callee = this.#functions.get(keyOf(node.domain, node.opType, node.overload));
      // One by one: a spread of a large body would overflow the call stack.
      if (callee) for (const inner of this.#call(node, callee, depth)) expanded.push(inner);
      else expanded.push(this.#expandBodies(node, depth));
    }
    return expanded;
  }

  #expandBodies(node: NodeProto, depth: number): NodeProto {
    if (!node.attribute?.some(({ g, graphs }) => g || graphs?.length)) return node;
    const attribute = node.attribute.map((each) => ({
      ...each,
      g: each.g && this.graph(each.g, depth),
      graphs: each.graphs?.map((body) => this.graph(body, depth)),
    }));
    return { ...node, attribute };
  }

  #call(call: NodeProto, callee: FunctionProto, depth: number): NodeProto[] {
    const body = callee.node ?? [];
    this.#nodes += body.length;
    if (depth >= MAX_DEPTH || this.#nodes > MAX_NODES) {
      throw new Q8Error(
        'ERR_Q8_BAD_MODEL',
        `Function "${callee.name ?? ''}" of the model expands to more than ${MAX_DEPTH} levels or ${MAX_NODES} nodes.`,
      );
    }
    this.#importOpsets(callee);
    const prefix = this.#prefix(call.name || callee.name || 'function');
    const bound = new Map<string, string>([['', '']]);
    for (const [i, name] of (callee.input ?? []).entries()) bound.set(name, call.input?.[i] ?? '');
    for (const [i, name] of (callee.output ?? []).entries()) if (call.output?.[i]) bound.set(name, call.output[i]);
    const rename: Rename = (name) => bound.get(name) ?? `${prefix}${name}`;
    const copies = body.map((node) => copyNode(node, rename, (name) => argument(name, call, callee)));
    return this.#expand(copies, depth + 1);
  }

  #prefix(base: string): string {
    const uses = this.#prefixes.get(base) ?? 0;
    this.#prefixes.set(base, uses + 1);
    return uses === 0 ? `${base}/` : `${base}#${uses}/`;
  }

  /** Adds the operator sets of a function to those of the model; a domain can have one version only. */
  #importOpsets(callee: FunctionProto): void {
    for (const { domain, version } of callee.opsetImport ?? []) {
      const name = domainOf(domain);
      const wanted = toSafeInteger(version, 'the opset version of a function');
      const known = this.opsets.find((each) => domainOf(each.domain) === name);
      if (!known) {
        this.opsets.push({ domain: name, version: wanted });
      } else if (
        toSafeInteger(known.version, 'the opset version of the model') !== wanted &&
        usesDomain(callee, name)
      ) {
        throw new Q8Error(
          'ERR_Q8_UNSUPPORTED_OP',
          `Function "${callee.name ?? ''}" needs version ${wanted} of domain "${name || 'ai.onnx'}" but the model imports ${known.version}.`,
        );
      }
    }
  }
}

function usesDomain(callee: FunctionProto, domain: string): boolean {
  return (callee.node ?? []).some((node) => domainOf(node.domain) === domain);
}

/** The attribute that a reference in a body stands for: the call's, else the default, else none. */
function argument(name: string, call: NodeProto, callee: FunctionProto): AttributeProto | undefined {
  const named = (each: AttributeProto): boolean => each.name === name;
  return call.attribute?.find(named) ?? callee.attributeProto?.find(named);
}

function copyNode(
  node: NodeProto,
  rename: Rename,
  argumentOf: (name: string) => AttributeProto | undefined,
): NodeProto {
  const attribute: AttributeProto[] = [];
  for (const each of node.attribute ?? []) {
    if (each.refAttrName) {
      const value = argumentOf(each.refAttrName);
      if (value) attribute.push({ ...value, name: each.name });
    } else {
      attribute.push({
        ...each,
        g: each.g && copyGraph(each.g, rename, argumentOf),
        graphs: each.graphs?.map((body) => copyGraph(body, rename, argumentOf)),
      });
    }
  }
  return {
    ...node,
    name: node.name ? rename(node.name) : '',
    input: node.input?.map(rename),
    output: node.output?.map(rename),
    attribute,
  };
}

function copyGraph(
  graph: GraphProto,
  rename: Rename,
  argumentOf: (name: string) => AttributeProto | undefined,
): GraphProto {
  const renamed = <T extends { name?: string | null }>(each: T): T => ({ ...each, name: rename(each.name ?? '') });
  return {
    ...graph,
    node: graph.node?.map((node) => copyNode(node, rename, argumentOf)),
    initializer: graph.initializer?.map(renamed),
    input: graph.input?.map(renamed),
    output: graph.output?.map(renamed),
    valueInfo: graph.valueInfo?.map(renamed),
  };
}
