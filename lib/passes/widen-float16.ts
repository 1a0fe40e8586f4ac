/**
 * Models of float16 compute in float32: CPUs have no faster way, and the quantizer takes float32 only. Inputs and outputs of
 * the model keep their type.
 */
import { graphsOf, nodesOf } from '../graph/bodies';
import { type Graph, Value } from '../graph/graph';
import { toDoubles } from '../ops/families/values';
import { lookupOp } from '../ops/registry';
import { onnxCodeOf } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { addCast } from './matching';

const FLOAT16 = onnxCodeOf('float16');
/** Attributes that name the type of a result. */
const TYPE_ATTRIBUTES = ['to', 'dtype', 'output_dtype'];

/**
 * Turns every float16 tensor into a float32 one, bodies included, with a Cast behind inputs and in front of outputs of the
 * model that are float16. Leaves models alone that have an operator q8 does not know: it may want what it got. Linear.
 */
export function widenFloat16(graph: Graph): boolean {
  const nodes = [...nodesOf(graph)];
  const isHalf = (value: Value | null): value is Value => value?.type?.dtype === 'float16';
  const castsToHalf = nodes.some(({ attributes }) => TYPE_ATTRIBUTES.some((key) => attributes.int(key) === FLOAT16));
  const hasHalf = castsToHalf || graph.inputs.some(isHalf) || nodes.some(({ inputs }) => inputs.some(isHalf));
  if (!hasHalf || nodes.some((node) => !lookupOp(node))) return false;
  const inputs = graph.inputs.filter(isHalf);
  // What goes through the model untouched stays as it is.
  const outputs = graph.outputs.filter((value) => isHalf(value) && !inputs.includes(value));
  for (const each of graphsOf(graph)) widenValues(each);
  for (const input of inputs) castInput(graph, input);
  for (const output of outputs) castOutput(graph, output);
  return true;
}

function widenValues(graph: Graph): void {
  const widen = (value: Value | null): void => {
    if (value?.constant?.type === 'float16') {
      const { constant } = value;
      value.constant = wide(constant);
    }
    if (value?.type?.dtype === 'float16') value.type = { ...value.type, dtype: 'float32' };
  };
  for (const value of [...graph.inputs, ...graph.outputs]) widen(value);
  for (const { inputs, outputs, attributes } of graph.nodes) {
    for (const value of [...inputs, ...outputs]) widen(value);
    for (const key of TYPE_ATTRIBUTES) {
      if (attributes.int(key) === FLOAT16) attributes.set(key, { kind: 'int', value: onnxCodeOf('float32') });
    }
    for (const [key, attribute] of [...attributes.entries()]) {
      if (attribute.kind === 'tensor' && attribute.value.type === 'float16')
        attributes.set(key, { kind: 'tensor', value: wide(attribute.value) });
    }
  }
}

function wide(tensor: Tensor): Tensor {
  return new Tensor('float32', Float32Array.from(toDoubles(tensor)), tensor.dims);
}

function castInput(graph: Graph, input: Value): void {
  const real = graph.newValue(`${input.name}_float32`, input.type);
  for (const node of input.consumers) {
    for (const [i, value] of node.inputs.entries()) if (value === input) node.setInput(i, real);
  }
  for (const each of graphsOf(graph)) {
    if (each === graph) continue;
    for (const [i, value] of each.outputs.entries()) if (value === input) each.outputs[i] = real;
  }
  input.type = { ...input.type!, dtype: 'float16' };
  addCast(graph, input, real);
}

function castOutput(graph: Graph, output: Value): void {
  const result = new Value(output.name, output.type && { ...output.type, dtype: 'float16' });
  output.name = graph.uniqueName(`${output.name}_float32`);
  graph.outputs[graph.outputs.indexOf(output)] = result;
  addCast(graph, output, result);
}
