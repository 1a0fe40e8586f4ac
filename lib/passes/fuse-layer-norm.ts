/**
 * Layer normalization as exporters before opset 17 write it (ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul,
 * Add) becomes one operator: nine passes over memory less, and nothing in it that a quantizer could touch. Scale and bias may
 * be missing.
 */
import { type Graph, type Node, Value } from '../graph/graph';
import { integersOf } from '../ops/families/values';
import { Tensor } from '../tensor/tensor';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** LayerNormalization exists since this opset. */
const SINCE = 17;

/** What the pattern around one ReduceMean is made of. */
interface Match {
  x: Value;
  epsilon: number;
  /** Undefined: 1. */
  scale?: Value;
  /** Undefined: 0. */
  bias?: Value;
  /** From the first ReduceMean to the last node, Div, Mul or Add. */
  nodes: Node[];
}

/** Replaces the pattern over the last axis wherever nobody else reads what is between its nodes. */
export function fuseLayerNorm(graph: Graph): boolean {
  if (graph.opset() < SINCE) return false;
  const captured = capturedValues(graph);
  let changed = false;
  for (const mean of graph.topologicalOrder()) {
    const match = isMeanOfLastAxis(mean) ? matchFrom(graph, mean, captured) : undefined;
    const last = match?.nodes.at(-1);
    if (!match || !last || captured.has(last.output)) continue;
    const result = new Value(graph.uniqueName(`${last.output.name}_layer_norm`), last.output.type);
    const size = match.x.type!.shape!.at(-1) as number;
    const ones = (): Tensor => new Tensor('float32', new Float32Array(size).fill(1));
    const scale = match.scale ?? graph.newConstant(`${last.name}_scale`, ones());
    for (const node of match.nodes) if (node !== last) graph.removeNode(node);
    graph.addNode({
      name: graph.uniqueName(`${last.name}_layer_norm`),
      op: 'LayerNormalization',
      inputs: [match.x, scale, ...(match.bias ? [match.bias] : [])],
      outputs: [result],
      attributes: { axis: { kind: 'int', value: -1 }, epsilon: { kind: 'float', value: match.epsilon } },
    });
    graph.replaceAllUses(last.output, result);
    graph.removeNode(last);
    changed = true;
  }
  return changed;
}

function matchFrom(graph: Graph, mean: Node, captured: ReadonlySet<Value>): Match | undefined {
  const only = (node: Node): Node | undefined => onlyConsumer(graph, node.output, captured);
  const x = mean.requiredInput(0);
  const sub = only(mean);
  if (!isOp(sub, 'Sub') || sub.input(0) !== x || sub.input(1) !== mean.output) return undefined;
  if (captured.has(sub.output) || graph.isOutput(sub.output) || sub.output.consumerCount !== 2) return undefined;
  const square = sub.output.consumers.find((node) => isSquare(node, sub.output));
  const divide = sub.output.consumers.find((node) => node !== square);
  const variance = square && only(square);
  const addEpsilon = isMeanOfLastAxis(variance) ? only(variance) : undefined;
  const root = isOp(addEpsilon, 'Add') ? only(addEpsilon) : undefined;
  if (!square || !variance || !addEpsilon || !isOp(root, 'Sqrt') || only(root) !== divide) return undefined;
  if (!isOp(divide, 'Div') || divide.input(0) !== sub.output || divide.input(1) !== root.output) return undefined;
  const epsilon = floatConstant(otherInput(addEpsilon, variance.output));
  const size = x.type?.shape?.at(-1);
  if (epsilon?.size !== 1 || typeof size !== 'number') return undefined;
  const nodes = [mean, sub, square, variance, addEpsilon, root, divide];
  // What is not a row of constants has another meaning and stays.
  const rowOf = (op: string): Value | undefined => {
    const node = only(nodes[nodes.length - 1]);
    const row = isOp(node, op) ? otherInput(node, nodes[nodes.length - 1].output) : null;
    if (!node || !row || !isVector(floatConstant(row), size)) return undefined;
    nodes.push(node);
    return row;
  };
  const scale = rowOf('Mul');
  const bias = rowOf('Add');
  return { x, epsilon: epsilon.data[0], ...(scale && { scale }), ...(bias && { bias }), nodes };
}

function isMeanOfLastAxis(node: Node | undefined): node is Node {
  if (!isOp(node, 'ReduceMean') || node.attributes.int('keepdims', 1) !== 1) return false;
  const input = node.input(1);
  const axes = input?.constant ? integersOf(input.constant) : node.attributes.ints('axes');
  const rank = node.input(0)?.type?.shape?.length;
  return axes?.length === 1 && (axes[0] === -1 || (rank !== undefined && axes[0] === rank - 1));
}

function isSquare(node: Node, of: Value): boolean {
  if (isOp(node, 'Mul')) return node.input(0) === of && node.input(1) === of;
  const exponent = node.input(1)?.constant;
  return isOp(node, 'Pow') && node.input(0) === of && exponent?.size === 1 && integersOf(exponent)[0] === 2;
}

function otherInput(node: Node, value: Value): Value | null {
  return node.input(node.input(0) === value ? 1 : 0);
}

function isVector(tensor: Tensor | undefined, size: unknown): boolean {
  return tensor?.dims.length === 1 && tensor.dims[0] === size;
}
