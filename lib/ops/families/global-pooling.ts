/** Pooling of whole planes of floats: the mean or the largest element of each channel. */
import type { ReduceStep } from '../../../binding';
import { sizeOf } from '../../tensor/shape';
import { defineOp, type OpDefinition, type QuantTrait } from '../define-op';
import { inferGlobalPooling } from './pooling';
import { fromDoubles, toDoubles } from './values';

export function defineGlobalPool(init: {
  type: string;
  since: readonly number[];
  kind: ReduceStep['kind'];
  quant: QuantTrait;
  reduce(plane: Float64Array): number;
}): OpDefinition {
  return defineOp({
    type: init.type,
    since: init.since,
    quant: init.quant,
    inferShape: (context) => [{ dtype: context.input(0).dtype, shape: inferGlobalPooling(context) }],
    run([x]) {
      const values = toDoubles(x!);
      const spatial = sizeOf(x!.dims.slice(2));
      const out = new Float64Array(x!.dims[0] * x!.dims[1]);
      for (let i = 0; i < out.length; i++) out[i] = init.reduce(values.subarray(i * spatial, (i + 1) * spatial));
      return [
        fromDoubles(
          x!.type,
          out,
          x!.dims.map((dim, i) => (i < 2 ? dim : 1)),
        ),
      ];
    },
    lower(context) {
      const { node } = context;
      const value = node.requiredInput(0);
      const shape = context.shape(value);
      if (context.dtype(value) !== 'float32') return false;
      const x = context.slot(value, 'nhwc');
      const y = context.output(node.output, 'nhwc');
      const axisSize = sizeOf(shape.slice(2));
      context.emit({ op: 'reduce', kind: init.kind, x: x.id, y: y.id, outer: shape[0], axisSize, inner: shape[1] });
      return true;
    },
  });
}
