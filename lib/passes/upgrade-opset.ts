/**
 * Rewrites a model of an older ai.onnx opset as one of a newer, so that the rest of q8 knows one spelling of each operator:
 * attributes that became inputs, defaults and meanings that changed. Only what differs is touched.
 */
import { expected, Q8Error } from '../errors';
import { Attributes } from '../graph/attributes';
import { type Graph, type Node, subgraphsOf, type Value } from '../graph/graph';
import { type Inference, inferTypes } from '../graph/infer';
import { fromDoubles } from '../ops/families/values';
import { lookupOp } from '../ops/registry';
import { Tensor } from '../tensor/tensor';
import { isOp } from './matching';

/** What models become unless something newer is needed; every runtime of the last years reads it. */
export const USUAL_OPSET = 17;
/** The first whose QuantizeLinear and DequantizeLinear have codes of 4 and 16 bits, and blocks. */
export const ALL_CODES_OPSET = 21;
/** Earlier targets would see operators in a spelling newer than theirs. */
const OLDEST_TARGET = 13;
/** Opset 6 is the oldest whose elementwise operators can be carried over. */
const OLDEST = 6;
/** The newest whose operators are known here (onnx 1.23). Later ones may change their meaning. */
const NEWEST = 27;
/**
 * The newest that models can be raised to; onnxruntime 1.30 loads no later ones. From 22 on operators have gained types,
 * and attributes whose defaults keep what was, so that no step leads there.
 */
export const NEWEST_TARGET = 26;

/** One change of an operator: how a node written for an opset below `until` reads from `until` on. */
interface Step {
  until: number;
  ops: readonly string[];
  apply(graph: Graph, node: Node): void;
}

const STEPS: readonly Step[] = [
  {
    until: 7,
    ops: ['Add', 'Sub', 'Mul', 'Div', 'Pow', 'And', 'Or', 'Xor', 'Equal', 'Greater', 'Less'],
    apply: unlimitBroadcast,
  },
  { until: 7, ops: ['PRelu'], apply: alignSlope },
  { until: 7, ops: ['Gemm'], apply: (_graph, node) => node.attributes.delete('broadcast') },
  { until: 7, ops: ['Dropout', 'BatchNormalization'], apply: (_graph, node) => node.attributes.delete('is_test') },
  { until: 9, ops: ['BatchNormalization'], apply: dropSpatial },
  { until: 9, ops: ['Upsample'], apply: (graph, node) => floatsToInput(graph, node, 'scales', 1) },
  { until: 10, ops: ['Upsample'], apply: upsampleToResize },
  { until: 10, ops: ['Slice'], apply: sliceBoundsToInputs },
  { until: 10, ops: ['TopK'], apply: (graph, node) => intToInput(graph, node, 'k', 1) },
  { until: 11, ops: ['Resize'], apply: resizeWithModes },
  { until: 11, ops: ['Clip'], apply: clipBoundsToInputs },
  { until: 11, ops: ['Pad'], apply: padsToInputs },
  { until: 11, ops: ['Scatter'], apply: (graph, node) => void replace(graph, node, 'ScatterElements', node.inputs) },
  { until: 12, ops: ['Dropout'], apply: dropoutRatioToInput },
  {
    until: 13,
    ops: ['Squeeze', 'Unsqueeze', 'ReduceSum'],
    apply: (graph, node) => intsToInput(graph, node, 'axes', 1),
  },
  { until: 13, ops: ['Split'], apply: (graph, node) => intsToInput(graph, node, 'split', 1) },
  {
    until: 18,
    ops: ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'].map((name) => `Reduce${name}`),
    apply: (graph, node) => intsToInput(graph, node, 'axes', 1),
  },
  { until: 18, ops: ['Split'], apply: countSplitOutputs },
  { until: 20, ops: ['GridSample'], apply: renameSampling },
  { until: 20, ops: ['DFT'], apply: axisOfDft },
  { until: 21, ops: ['GroupNormalization'], apply: refuseGroupNorm },
];

/**
 * Raises the ai.onnx opset of a graph, bodies included, to `target`; does nothing when it is there already. Linear.
 *
 * @param target 13 to {@link NEWEST_TARGET}; default {@link USUAL_OPSET}.
 * @throws ERR_Q8_UNSUPPORTED_OP for opsets older than 6 or newer than 27, and for the few nodes that newer opsets cannot
 * express.
 */
export function upgradeOpset(graph: Graph, target = USUAL_OPSET): void {
  const from = graph.opset();
  if (from > NEWEST) {
    throw expected(`opset ${NEWEST} or older`, 'the model', `opset ${from}`, {
      code: 'ERR_Q8_UNSUPPORTED_OP',
      hint: 'export it again for an opset that runtimes know; what newer ones change is not known here.',
    });
  }
  // A graph without standard operators has no version of them.
  if (from === 0 || from >= target) return;
  if (target < OLDEST_TARGET || target > NEWEST_TARGET) {
    throw expected(`an opset from ${OLDEST_TARGET} to ${NEWEST_TARGET}`, 'the target of upgradeOpset()', target);
  }
  if (from < OLDEST) {
    throw expected(`opset ${OLDEST} or newer`, 'the model', `opset ${from}`, {
      code: 'ERR_Q8_UNSUPPORTED_OP',
      hint: 'convert it with the version converter of the onnx Python package, or export it again.',
    });
  }
  const steps = new Map<string, Step[]>();
  for (const step of STEPS) {
    if (step.until <= from || step.until > target) continue;
    for (const op of step.ops) steps.set(op, [...(steps.get(op) ?? []), step]);
  }
  applySteps(graph, steps);
  graph.opsets.set('', target);
  if (from < 13) rewriteSoftmax(graph, new Ranks(graph));
}

function applySteps(graph: Graph, steps: ReadonlyMap<string, readonly Step[]>): void {
  for (const node of [...graph.nodes]) {
    for (const body of subgraphsOf(node)) applySteps(body, steps);
    for (const step of steps.get(node.op) ?? []) {
      // A step may have replaced the node by one of another type, which no later step of this type concerns.
      if (isOp(node, node.op) && graph.nodes.has(node)) step.apply(graph, node);
    }
  }
}

function unsupported(node: Node, what: string): Q8Error {
  return new Q8Error('ERR_Q8_UNSUPPORTED_OP', `Node "${node.name}" (${node.op}) ${what}.`, { node: node.name });
}

// Attributes to inputs --------------------------------------------------------------------------------------------------

function int64(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}

function setConstant(graph: Graph, node: Node, index: number, name: string, tensor: Tensor): void {
  node.setInput(index, graph.newConstant(`${node.name || node.op}_${name}`, tensor));
}

function intsToInput(graph: Graph, node: Node, name: string, index: number): void {
  const values = node.attributes.ints(name);
  node.attributes.delete(name);
  if (values) setConstant(graph, node, index, name, int64(values));
}

function intToInput(graph: Graph, node: Node, name: string, index: number): void {
  const value = node.attributes.int(name);
  node.attributes.delete(name);
  if (value !== undefined) setConstant(graph, node, index, name, int64([value]));
}

function floatsToInput(graph: Graph, node: Node, name: string, index: number): void {
  const values = node.attributes.floats(name);
  node.attributes.delete(name);
  if (values) setConstant(graph, node, index, name, new Tensor('float32', values));
}

function sliceBoundsToInputs(graph: Graph, node: Node): void {
  intsToInput(graph, node, 'starts', 1);
  intsToInput(graph, node, 'ends', 2);
  intsToInput(graph, node, 'axes', 3);
}

function clipBoundsToInputs(graph: Graph, node: Node): void {
  for (const [index, name] of [
    [1, 'min'],
    [2, 'max'],
  ] as const) {
    const bound = node.attributes.float(name);
    node.attributes.delete(name);
    if (bound !== undefined) setConstant(graph, node, index, name, floatScalar(node, bound));
  }
}

function padsToInputs(graph: Graph, node: Node): void {
  intsToInput(graph, node, 'pads', 1);
  const value = node.attributes.float('value', 0);
  node.attributes.delete('value');
  if (node.attributes.string('mode', 'constant') === 'constant') {
    setConstant(graph, node, 2, 'value', floatScalar(node, value));
  }
}

/** A scalar of the type of the node's input; these old operators take floats only, and float32 unless the file says so. */
function floatScalar(node: Node, value: number): Tensor {
  const dtype = node.input(0)?.constant?.type ?? node.input(0)?.type?.dtype ?? 'float32';
  return fromDoubles(dtype, Float64Array.of(value), []);
}

function dropoutRatioToInput(graph: Graph, node: Node): void {
  const ratio = node.attributes.float('ratio');
  node.attributes.delete('ratio');
  if (ratio !== undefined) setConstant(graph, node, 1, 'ratio', new Tensor('float32', [ratio], []));
}

function dropSpatial(_graph: Graph, node: Node): void {
  if (node.attributes.int('spatial', 1) !== 1)
    throw unsupported(node, 'normalizes per element (spatial = 0), which no newer opset can');
  node.attributes.delete('spatial');
}

/** Parts of equal size used to follow from the number of outputs. */
function countSplitOutputs(_graph: Graph, node: Node): void {
  if (!node.input(1)) node.attributes.set('num_outputs', { kind: 'int', value: node.outputs.length });
}

function renameSampling(_graph: Graph, node: Node): void {
  const mode = node.attributes.string('mode', 'bilinear');
  const names: Record<string, string> = { bilinear: 'linear', bicubic: 'cubic' };
  node.attributes.set('mode', { kind: 'string', value: names[mode] ?? mode });
}

/** The axis, 1 by default, became an input with another default. */
function axisOfDft(graph: Graph, node: Node): void {
  const axis = node.attributes.int('axis', 1);
  node.attributes.delete('axis');
  setConstant(graph, node, 2, 'axis', int64([axis], []));
}

function refuseGroupNorm(_graph: Graph, node: Node): void {
  throw unsupported(node, 'has a scale per group, which opset 21 no longer has');
}

// Broadcasting before opset 7 -------------------------------------------------------------------------------------------

/** `broadcast` with `axis` aligned B's first dimension with an axis of A; now alignment is at the end. */
function unlimitBroadcast(graph: Graph, node: Node): void {
  const axis = node.attributes.int('axis');
  node.attributes.delete('axis');
  const broadcast = node.attributes.int('broadcast', 0);
  node.attributes.delete('broadcast');
  if (broadcast && axis !== undefined) appendDims(graph, node, axis);
}

/** A slope per channel was one-dimensional. */
function alignSlope(graph: Graph, node: Node): void {
  const slope = node.requiredInput(1);
  if (rankOf(slope) === 1 && (slope.constant?.size ?? 0) !== 1) appendDims(graph, node, 1);
}

/** Appends dimensions of 1 to input 1, so that its first dimension meets axis `axis` of input 0. */
function appendDims(graph: Graph, node: Node, axis: number): void {
  const [a, b] = [node.requiredInput(0), node.requiredInput(1)];
  const [rankA, rankB] = [rankOf(a), rankOf(b)];
  if (rankA === undefined || rankB === undefined)
    throw unsupported(node, 'broadcasts along an axis between values of unknown rank');
  const extra = rankA - (axis < 0 ? axis + rankA : axis) - rankB;
  if (extra < 0)
    throw expected('an axis that fits both ranks', `node "${node.name}" (${node.op})`, axis, {
      code: 'ERR_Q8_BAD_MODEL',
    });
  if (extra === 0) return;
  const ones = new Array<number>(extra).fill(1);
  if (b.constant) {
    node.setInput(1, graph.newConstant(b.name, b.constant.reshape([...b.constant.dims, ...ones])));
    return;
  }
  const axes = ones.map((_, i) => rankB + i);
  const wide = graph.newValue(`${b.name}_unsqueezed`);
  addBefore(graph, node, 'Unsqueeze', [b, graph.newConstant(`${b.name}_axes`, int64(axes))], wide);
  node.setInput(1, wide);
}

function rankOf(value: Value): number | undefined {
  return value.constant?.dims.length ?? value.type?.shape?.length;
}

// Nodes that become others ----------------------------------------------------------------------------------------------

function addBefore(
  graph: Graph,
  node: Node,
  op: string,
  inputs: readonly (Value | null)[],
  output: Value,
  attributes = {},
): Node {
  return graph.addNode({
    name: graph.uniqueName(`${node.name || node.op}_${op}`),
    op,
    inputs,
    outputs: [output],
    attributes,
  });
}

/** Puts another operator in the place of `node`, with its attributes. */
function replace(graph: Graph, node: Node, op: string, inputs: readonly (Value | null)[]): Node {
  const { name, outputs } = node;
  const attributes = new Attributes(name || op, node.attributes.entries());
  graph.removeNode(node);
  return graph.addNode({ name, op, inputs: [...inputs], outputs, attributes });
}

function upsampleToResize(graph: Graph, node: Node): void {
  resizeWithModes(graph, replace(graph, node, 'Resize', node.inputs));
}

/** Resize 10 had inputs X and scales and mapped coordinates by division; 11 says so explicitly and has a region input. */
function resizeWithModes(_graph: Graph, node: Node): void {
  const scales = node.requiredInput(1);
  node.setInput(2, scales);
  node.setInput(1, null);
  node.attributes.set('coordinate_transformation_mode', { kind: 'string', value: 'asymmetric' });
  if (node.attributes.string('mode', 'nearest') === 'nearest') {
    node.attributes.set('nearest_mode', { kind: 'string', value: 'floor' });
  }
}

// Softmax before opset 13 -----------------------------------------------------------------------------------------------

/** Ranks of values, inferred when the first unknown one is asked for. */
class Ranks {
  readonly #graph: Graph;
  #inference: Inference | undefined;

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  of(value: Value): number | undefined {
    const known = rankOf(value);
    if (known !== undefined) return known;
    this.#inference ??= inferTypes(this.#graph, lookupOp);
    return this.#inference.typeOf(value)?.shape?.length;
  }
}

function rewriteSoftmax(graph: Graph, ranks: Ranks): void {
  for (const node of [...graph.nodes]) {
    for (const body of subgraphsOf(node)) rewriteSoftmax(body, ranks);
    if (isOp(node, 'Softmax', 'LogSoftmax', 'Hardmax')) flattenAroundSoftmax(graph, node, ranks);
  }
}

/** These flattened to two dimensions at `axis` (default 1) and worked on the second; only at the last axis is that the same. */
function flattenAroundSoftmax(graph: Graph, node: Node, ranks: Ranks): void {
  const axis = node.attributes.int('axis', 1);
  const x = node.requiredInput(0);
  node.attributes.set('axis', { kind: 'int', value: -1 });
  if (axis === -1) return;
  const rank = ranks.of(x);
  if (axis + 1 === rank) return;
  const { name, op, output } = node;
  const attributes = new Attributes(name, node.attributes.entries());
  const shape = graph.newValue(`${output.name}_shape`);
  const flat = graph.newValue(`${output.name}_flat`);
  const soft = graph.newValue(`${output.name}_softmax`);
  graph.removeNode(node);
  addBefore(graph, node, 'Shape', [x], shape);
  addBefore(graph, node, 'Flatten', [x], flat, { axis: { kind: 'int', value: axis } });
  graph.addNode({ name, op, inputs: [flat], outputs: [soft], attributes });
  addBefore(graph, node, 'Reshape', [soft, shape], output);
}
