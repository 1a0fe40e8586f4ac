/** Finding operators by name. An unknown one is a case to handle, not an error: passes and the quantizer look past it. */
import { didYouMean, Q8Error } from '../errors';
import type { Node } from '../graph/graph';
import type { OpDefinition, QuantTrait } from './define-op';
import { OPERATORS } from './index';

const BY_NAME = new Map(OPERATORS.map((operator) => [`${operator.domain}:${operator.type}`, operator]));

/** The operator of this domain ('' and 'ai.onnx' are the same) and type, if q8 has it. */
export function opDefinition(domain: string, type: string): OpDefinition | undefined {
  return BY_NAME.get(`${domain === 'ai.onnx' ? '' : domain}:${type}`);
}

/** The operator of a node, if q8 has it. */
export function lookupOp(node: Node): OpDefinition | undefined {
  return opDefinition(node.domain, node.op);
}

/** How the operator of a node takes part in quantization; undefined when it has none to take. */
export function quantTraitOf(node: Node): QuantTrait | undefined {
  const quant = lookupOp(node)?.quant;
  return typeof quant === 'function' ? quant(node) : quant;
}

/** Types of all operators, for did-you-mean. */
export function opNames(): Set<string> {
  return new Set(OPERATORS.map((operator) => operator.type));
}

/** The ERR_Q8_UNSUPPORTED_OP error about a node whose operator q8 does not have, with the one that was perhaps meant. */
export function unsupported(node: Node): Q8Error {
  const elsewhere = OPERATORS.find((operator) => operator.type === node.op);
  const close = didYouMean(node.op, opNames());
  let hint: string | undefined;
  if (elsewhere) hint = `${node.op} is an operator of domain ${elsewhere.domain || 'ai.onnx'}.`;
  else if (close) hint = `did you mean ${close}?`;
  const message = `Operator ${node.domain || 'ai.onnx'}.${node.op} of node "${node.name}" is not supported.`;
  return new Q8Error('ERR_Q8_UNSUPPORTED_OP', message, { node: node.name, ...(hint && { hint }) });
}
