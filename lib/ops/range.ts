/** Range (ai.onnx 11, 27): start, start + delta, ... before limit. */
import { expected } from '../errors';
import { defineOp } from './define-op';
import { fromDoubles, scalarOf } from './families/values';

/** Elements of the range; a step of 0 or away from the limit gives none. */
function countOf(start: number, limit: number, delta: number): number {
  const count = Math.ceil((limit - start) / delta);
  return Number.isFinite(count) ? Math.max(0, count) : 0;
}

export const Range = defineOp({
  type: 'Range',
  since: [11, 27],
  inferShape(context) {
    const { dtype } = context.input(0);
    const [start, limit, delta] = [0, 1, 2].map((i) => context.constant(i));
    // From 0 by 1 to a size that has a name: as many.
    const size = start && delta && scalarOf(start) === 0 && scalarOf(delta) === 1 ? context.dims(1) : undefined;
    if (!start || !limit || !delta) return [{ dtype, shape: size ?? [context.unknownDim()] }];
    return [{ dtype, shape: [countOf(scalarOf(start), scalarOf(limit), scalarOf(delta))] }];
  },
  run([start, limit, delta], { node }) {
    const [first, end, step] = [start!, limit!, delta!].map(scalarOf);
    if (step === 0)
      throw expected('a number other than 0', `the delta of node "${node.name}" (${node.op})`, 0, { node: node.name });
    const count = countOf(first, end, step);
    return [
      fromDoubles(
        start!.type,
        Float64Array.from({ length: count }, (_, i) => first + i * step),
        [count],
      ),
    ];
  },
});
