/**
 * Gelu as exporters write it becomes one operator: x/2 (1 + erf(x / sqrt 2)) is com.microsoft Gelu, and its approximation
 * x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) FastGelu. A bias before it stays where a matrix product can add it.
 */
import { type Graph, type Node, Value } from '../graph/graph';
import { capturedValues, floatConstant, isOp, onlyConsumer } from './matching';

/** How exporters round constants. */
const TOLERANCE = 1e-3;

/**
 * Replaces both patterns wherever nobody else reads what is between their nodes; the result keeps its name. `keep` tells nodes
 * that must stay; Erf or Tanh and the last one are asked for. Returns the new nodes. Linear.
 */
export function fuseGelu(graph: Graph, keep: (node: Node) => boolean = () => false): Node[] {
  const captured = capturedValues(graph);
  const made: Node[] = [];
  for (const node of graph.topologicalOrder()) {
    const x = isOp(node, 'Erf') ? erfArgument(node) : isOp(node, 'Tanh') ? tanhArgument(node) : undefined;
    const last = x && endOf(graph, node, x, captured);
    if (!x || !last || captured.has(last.output) || keep(node) || keep(last)) continue;
    const result = new Value(graph.uniqueName(`${last.output.name}_gelu`), last.output.type);
    const gelu = graph.addNode({
      name: graph.uniqueName(`${node.name}_gelu`),
      op: node.op === 'Erf' ? 'Gelu' : 'FastGelu',
      domain: 'com.microsoft',
      inputs: [x],
      outputs: [result],
    });
    const old = last.output;
    const isPublic = graph.isOutput(old);
    graph.replaceAllUses(old, result);
    graph.removeNode(last);
    // Outputs of the graph keep their names in any case.
    if (!isPublic) [result.name, old.name] = [old.name, result.name];
    made.push(gelu);
  }
  return made;
}

/** x of erf(x / sqrt 2). */
function erfArgument(erf: Node): Value | undefined {
  const inner = erf.input(0)?.producer;
  if (isOp(inner, 'Div') && isClose(scalar(inner.input(1)), Math.SQRT2)) return inner.requiredInput(0);
  return inner ? times(inner, Math.SQRT1_2) : undefined;
}

/** x of tanh(sqrt(2/pi) (x + 0.044715 x^3)). */
function tanhArgument(tanh: Node): Value | undefined {
  const scaled = tanh.input(0)?.producer;
  const sum = scaled && times(scaled, Math.sqrt(2 / Math.PI))?.producer;
  if (!isOp(sum, 'Add')) return undefined;
  for (const [i, j] of [
    [0, 1],
    [1, 0],
  ]) {
    const [x, cubic] = [sum.requiredInput(i), sum.requiredInput(j).producer];
    const cube = cubic && times(cubic, 0.044715)?.producer;
    if (isOp(cube, 'Pow') && cube.input(0) === x && isClose(scalar(cube.input(1)), 3)) return x;
  }
  return undefined;
}

/** The node whose result is x/2 (1 + value of `node`), in any order of the factors. */
function endOf(graph: Graph, node: Node, x: Value, captured: ReadonlySet<Value>): Node | undefined {
  const plusOne = onlyConsumer(graph, node.output, captured);
  if (!isOp(plusOne, 'Add') || !isClose(scalar(other(plusOne, node.output)), 1)) return undefined;
  const product = onlyConsumer(graph, plusOne.output, captured);
  if (!isOp(product, 'Mul')) return undefined;
  const factor = other(product, plusOne.output);
  // x/2 (1 + f)
  if (factor?.producer && times(factor.producer, 0.5) === x) return product;
  const half = onlyConsumer(graph, product.output, captured);
  // (x (1 + f)) / 2
  if (factor === x && half && times(half, 0.5) === product.output) return half;
  // x ((1 + f) / 2)
  if (factor && isClose(scalar(factor), 0.5) && isOp(half, 'Mul') && other(half, product.output) === x) return half;
  return undefined;
}

/** The operand of a Mul whose other operand is the constant `factor`. */
function times(node: Node, factor: number): Value | undefined {
  if (!isOp(node, 'Mul')) return undefined;
  const [a, b] = [node.requiredInput(0), node.requiredInput(1)];
  if (isClose(scalar(b), factor)) return a;
  return isClose(scalar(a), factor) ? b : undefined;
}

function scalar(value: Value | null): number | undefined {
  const tensor = floatConstant(value);
  return tensor?.size === 1 ? tensor.data[0] : undefined;
}

function isClose(value: number | undefined, wanted: number): boolean {
  return value !== undefined && Math.abs(value - wanted) <= TOLERANCE * wanted;
}

function other(node: Node, value: Value): Value | null {
  return node.input(node.input(0) === value ? 1 : 0);
}
