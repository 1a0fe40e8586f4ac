/** How ScatterND and ScatterElements put an update onto what is there. */
import type { Node } from '../../graph/graph';
import type { Tensor } from '../../tensor/tensor';
import { modelError } from './inference';

type Reducer = <T extends number | bigint>(old: T, update: T) => T;

const REDUCERS: Record<string, Reducer> = {
  none: (_old, update) => update,
  add: (old, update) => ((old as number) + (update as number)) as typeof old,
  mul: (old, update) => ((old as number) * (update as number)) as typeof old,
  max: (old, update) => (update > old ? update : old),
  min: (old, update) => (update < old ? update : old),
};

/** The function that attribute `reduction` names. Storing rounds or wraps as the dtype does. */
export function reducerOf(node: Node): Reducer {
  const name = node.attributes.string('reduction', 'none');
  const reducer = Object.hasOwn(REDUCERS, name) ? REDUCERS[name] : undefined;
  if (!reducer) throw modelError(node, `one of ${Object.keys(REDUCERS).join(', ')}`, 'reduction', name);
  return reducer;
}

/** A copy of the elements of a tensor. */
export function copyOf<T extends Tensor>(tensor: T): T['data'] {
  return tensor.data.slice() as T['data'];
}
