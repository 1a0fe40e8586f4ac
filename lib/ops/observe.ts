/**
 * Observe (ai.q8 1): y = x, and somebody looks at x. How calibration sees tensors in bodies of control flow, each time that
 * they are computed; inside sessions only, never in files.
 */
import { Q8Error } from '../errors';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { shapeAs } from './families/inference';

export type Observer = (tensor: Tensor) => void;

const observers = new Map<number, Observer>();
let last = 0;

/** Keeps an observer for nodes whose attribute `observer` is the number returned, until {@link forget}. */
export function remember(observer: Observer): number {
  observers.set(++last, observer);
  return last;
}

export function forget(observer: number): void {
  observers.delete(observer);
}

export const Observe = defineOp({
  type: 'Observe',
  domain: 'ai.q8',
  since: [1],
  inferShape: (context) => [shapeAs(context, context.input(0).dtype)],
  run([x], { node }) {
    const observer = observers.get(node.attributes.int('observer', 0));
    if (!observer) throw new Q8Error('ERR_Q8_INTERNAL', 'Nobody observes any more.', { node: node.name });
    observer(x!);
    return [x!];
  },
});
