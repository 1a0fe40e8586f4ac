/** Finding operators for passes and the runtime, for which an unknown one is a case to handle, not an error. */
import type { Node } from '../graph/graph';
import type { OpDefinition } from './define-op';
import { OPERATORS, opDefinition } from './index';

/** The operator of a node, if q8 has it. */
export function lookupOp(node: Node): OpDefinition | undefined {
  return opDefinition(node.domain, node.op);
}

/** Types of all operators, for did-you-mean. */
export function opNames(): Set<string> {
  return new Set(OPERATORS.map((operator) => operator.type));
}
