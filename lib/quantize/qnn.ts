/**
 * What the QNN provider (Qualcomm's accelerators) wants of single tensors, as overrides: fixed scales of 16-bit Sigmoid and
 * Tanh, one scale for matrices, and one type on both sides of a node. ONNX Runtime's get_qnn_qdq_config() does the same.
 */
import { nodesOf } from '../graph/bodies';
import type { Graph, Node, Value } from '../graph/graph';
import type { CodeDType } from '../tensor/dtype';
import type { TensorOverride, TensorOverrides } from './overrides';
import type { Representation } from './representation';

/** Scale and zero point of 16-bit outputs whose range is known. */
const FIXED: Readonly<Record<string, Readonly<Partial<Record<CodeDType, { scale: number; zeroPoint: number }>>>>> = {
  Sigmoid: { uint16: { scale: 2 ** -16, zeroPoint: 0 }, int16: { scale: 2 ** -15, zeroPoint: 0 } },
  Tanh: { uint16: { scale: 2 ** -15, zeroPoint: 2 ** 15 }, int16: { scale: 2 ** -15, zeroPoint: 0 } },
};

/** The overrides with those that QNN needs besides. What is given wins. */
export function qnnOverrides(
  graph: Graph,
  { overrides: given, activationType, perChannel }: Pick<Representation, 'overrides' | 'activationType' | 'perChannel'>,
): TensorOverrides {
  const overrides = new Map<string, TensorOverride>(Object.entries(given));
  const add = (name: string, override: TensorOverride): void => {
    overrides.set(name, { ...override, ...overrides.get(name) });
  };
  const typeOf = ({ name }: Value): CodeDType => given[name]?.type ?? activationType;
  for (const node of nodesOf(graph)) {
    const type = node.outputs[0] && typeOf(node.outputs[0]);
    const fixed = type && FIXED[node.op]?.[type];
    if (fixed && given[node.output.name]?.scale === undefined) add(node.output.name, { type, ...fixed });
    if (node.op === 'MatMul' && perChannel) {
      for (const value of node.inputs) if (value?.constant && !given[value.name]) add(value.name, { axis: null });
    }
    if (type) convertInputs(node, type, typeOf, given, add);
  }
  return Object.fromEntries(overrides);
}

/** Lets a node read the type that it writes, where that of an input is another. */
function convertInputs(
  node: Node,
  type: CodeDType,
  typeOf: (value: Value) => CodeDType,
  given: TensorOverrides,
  add: (name: string, override: TensorOverride) => void,
): void {
  for (const value of new Set(node.inputs)) {
    if (!value || value.constant || value.type?.dtype !== 'float32') continue;
    if (typeOf(value) === type || given[value.name]?.convert) continue;
    const receivers = value.consumers.filter((reader) => {
      const [output] = reader.outputs;
      return output?.type?.dtype === 'float32' && typeOf(output) === type;
    });
    add(value.name, { convert: { type, receivers: receivers.map(({ name }) => name) } });
  }
}
