/** ArgMax and ArgMin: the index of the extreme element along an axis. */
import type { Node } from '../../graph/graph';
import { Tensor } from '../../tensor/tensor';
import { defineOp, type OpDefinition } from '../define-op';
import { axisOf } from './inference';
import { split3 } from './strided';
import { toDoubles } from './values';

/** `isBetter(a, b)`: whether a beats b. The first of equals wins, or the last with select_last_index. */
export function defineArgExtremum(type: string, isBetter: (a: number, b: number) => boolean): OpDefinition {
  const shapeOf = <T>(node: Node, shape: readonly T[], axis: number): (T | 1)[] =>
    node.attributes.int('keepdims', 1) !== 0
      ? shape.map((dim, i) => (i === axis ? 1 : dim))
      : shape.filter((_, i) => i !== axis);
  return defineOp({
    type,
    since: [1, 11, 12, 13],
    quant: { kind: 'agnostic' },
    inferShape(context) {
      const { node } = context;
      const { shape } = context.input(0);
      if (!shape) return [{ dtype: 'int64' }];
      return [
        { dtype: 'int64', shape: shapeOf(node, shape, axisOf(node, node.attributes.int('axis', 0), shape.length)) },
      ];
    },
    run([x], { node }) {
      const axis = axisOf(node, node.attributes.int('axis', 0), x!.dims.length);
      const [outer, size, inner] = split3(x!.dims, axis);
      const lastWins = node.attributes.int('select_last_index', 0) !== 0;
      const values = toDoubles(x!);
      const out = new BigInt64Array(outer * inner);
      for (let o = 0; o < outer; o++) {
        for (let j = 0; j < inner; j++) {
          let best = 0;
          const at = (i: number): number => values[(o * size + i) * inner + j];
          for (let i = 1; i < size; i++) if (isBetter(at(i), at(best)) || (lastWins && at(i) === at(best))) best = i;
          out[o * inner + j] = BigInt(best);
        }
      }
      return [new Tensor('int64', out, shapeOf(node, x!.dims, axis))];
    },
  });
}
