/**
 * Activations whose scale and zero point are computed in the run: by DynamicQuantizeLinear, by the operators that contain
 * it, or anything else.
 */
import type { Value } from '../../graph/graph';
import { Tensor } from '../../tensor/tensor';
import type { Layout, LowerContext, Slot } from '../define-op';
import { sizeOf } from '../../tensor/shape';
import { physicalOrder } from './lowering';
import { scalarOf } from './values';

/** Slots of one element each; `scale` is null where the result is the int32 accumulator. */
export interface RunTimeParameters {
  scale: Slot | null;
  zeroPoint: Slot;
}

/**
 * Parameters of an activation from the inputs that hold them: the zero point alone when all are constant. Undefined when
 * they have not one element each, which the native steps need. `scale` is null where there is none by definition; an
 * absent zero point is 0.
 */
export function inputParameters(
  context: LowerContext,
  codes: Value,
  scale: Value | null,
  zeroPoint: Value | null,
): number | RunTimeParameters | undefined {
  const given = [scale, zeroPoint].filter((value) => value !== null);
  if (given.some((value) => sizeOf(context.shape(value)) !== 1)) return undefined;
  if (given.every((value) => context.constant(value))) {
    const zero = context.constant(zeroPoint);
    return zero ? scalarOf(zero) : 0;
  }
  const dtype = context.dtype(codes) as 'uint8' | 'int8';
  return {
    scale: scale && context.slot(scale, 'row'),
    zeroPoint: zeroPoint ? context.slot(zeroPoint, 'row') : context.constantSlot(new Tensor(dtype, [0], [])),
  };
}

/** Where the results of {@link quantizeInRun} go; what is left out becomes a temporary. */
export interface QuantizedSlots extends RunTimeParameters {
  codes: Slot;
}

/** Emits the steps that quantize a float32 value by its own range, in one layout. */
export function quantizeInRun(
  context: LowerContext,
  value: Value,
  layout: Layout,
  into: Partial<QuantizedSlots> = {},
): QuantizedSlots {
  const x = context.slot(value, layout).id;
  const range = context.temporary('float32', [2]).id;
  const codes = into.codes ?? context.temporary('uint8', physicalOrder(context.shape(value), layout));
  const scale = into.scale ?? context.temporary('float32', []);
  const zeroPoint = into.zeroPoint ?? context.temporary('uint8', []);
  context.emit({ op: 'range', x, y: range });
  context.emit({ op: 'quantize_dynamic', x, range, y: codes.id });
  context.emit({ op: 'range_parameter', x: range, y: scale.id });
  context.emit({ op: 'range_parameter', x: range, y: zeroPoint.id });
  return { codes, scale, zeroPoint };
}
