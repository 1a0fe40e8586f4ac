/** Which codes each tensor gets: the options, and the exceptions by tensor, as input of lib/quantize/scale.ts. */
import { type CodeDType, codeRange } from '../tensor/dtype';
import { onnxruntimeOperand, onnxruntimeWeight } from './compat';
import { listOf, pairsOf, type CodesOverride } from './overrides';
import type { InputRole } from './plan';
import type { Representation } from './representation';
import { type Granularity, type Range, type ScaleAndZeroPoint, type ScaleOptions, scaleOfRange } from './scale';

/** How codes of a tensor follow from what they have to cover. */
export interface TensorFormat extends ScaleOptions {
  /** What to cover instead of the tensor's own range: one, or one per index of the axis. */
  ranges?: readonly Range[];
  /** Prescribed; one, or one per index of the axis. */
  fixed?: readonly ScaleAndZeroPoint[];
}

export interface WeightFormat extends TensorFormat {
  granularity: Granularity;
}

export type FormatOptions = Pick<
  Representation,
  | 'format'
  | 'activationType'
  | 'weightType'
  | 'activationSymmetric'
  | 'restrictZeroPoints'
  | 'weightSymmetric'
  | 'reduceRange'
  | 'minRealRange'
  | 'blockSize'
  | 'overrides'
  | 'compat'
>;

/** Axes of a weight: that of its scales, and that along which products are summed, for matrices. */
type WeightAxes = Pick<Extract<InputRole, { kind: 'weight' }>, 'axis' | 'sumAxis'>;

export class Formats {
  readonly #options: FormatOptions;

  constructor(options: FormatOptions) {
    this.#options = options;
  }

  /** Of an activation that no other one shares its scale with, or of the head of those that do. */
  activation(name: string): TensorFormat {
    return this.#overridden(this.#activation(), this.#options.overrides[name]);
  }

  /** Of codes for the readers that get another type; undefined when there are none. */
  converted(name: string): { format: TensorFormat; receivers: ReadonlySet<string> | undefined } | undefined {
    const convert = this.#options.overrides[name]?.convert;
    if (!convert) return undefined;
    return {
      format: this.#overridden(this.#activation(), convert),
      receivers: convert.receivers && new Set(convert.receivers),
    };
  }

  /** Of a constant that is an operand like any activation. */
  operand(name: string, rank: number): WeightFormat {
    const base = this.#activation();
    const rules = this.#options.compat ? { ...onnxruntimeOperand(this.#options), restrictZeroPoint: false } : {};
    return this.#constant({ ...base, ...rules }, name, rank, undefined);
  }

  /** Of a weight of `rank` dimensions that a node of type `op` reads, as the plan wants its scales. */
  weight(name: string, rank: number, op: string, { axis, sumAxis }: WeightAxes): WeightFormat {
    const { reduceRange, minRealRange, blockSize: block, overrides, compat } = this.#options;
    const blockAxis = compat && rank === 2 ? (axis ?? 0) : sumAxis;
    const isBlocked = block !== undefined && blockAxis !== undefined;
    const override = overrides[name]?.axis;
    const isPerChannel = (override === undefined ? axis : (override ?? undefined)) !== undefined;
    const { dtype, symmetric } = compat
      ? onnxruntimeWeight(op, isPerChannel, this.#options)
      : this.#weightCodes(overrides[name]?.type, isPerChannel && !isBlocked);
    const granularity = isBlocked ? { axis: blockAxis, block } : axis === undefined ? undefined : { axis };
    const base = { dtype, symmetric, reduceRange, minRealRange };
    return this.#constant(base, name, rank, granularity);
  }

  #weightCodes(override: CodeDType | undefined, isPerChannel: boolean): { dtype: CodeDType; symmetric: boolean } {
    const dtype = override ?? this.#options.weightType;
    return { dtype, symmetric: this.#options.weightSymmetric ?? (isPerChannel || codeRange(dtype)[0] < 0) };
  }

  /** Whether the scale of an activation, which is that of the head of its group, or of its conversion follows from a range. */
  needsRange(name: string, head: string): boolean {
    const formats = [this.activation(head), this.converted(name)?.format];
    return formats.some((format) => format && !format.fixed && !format.ranges);
  }

  /** Whether codes of an activation may have a scale that integer kernels prefer to that of its range. */
  takesKnownScale(name: string): boolean {
    const { activationType: type, compat, format } = this.#options;
    return !this.hasOverride(name) && (type === 'uint8' || type === 'int8') && !(compat && format === 'qdq');
  }

  hasOverride(name: string): boolean {
    return this.#options.overrides[name] !== undefined;
  }

  #activation(): ScaleOptions {
    const { activationType: dtype, activationSymmetric: symmetric, restrictZeroPoints, minRealRange } = this.#options;
    return { dtype, symmetric, restrictZeroPoint: restrictZeroPoints, minRealRange };
  }

  #constant(base: ScaleOptions, name: string, rank: number, granularity: Granularity): WeightFormat {
    const override = this.#options.overrides[name];
    const format = this.#overridden({ ...base, reduceRange: override?.reduceRange ?? base.reduceRange }, override);
    if (override?.axis === undefined) return { ...format, granularity };
    const { axis } = override;
    return { ...format, granularity: axis === null ? undefined : { axis: axis < 0 ? axis + rank : axis } };
  }

  #overridden(base: ScaleOptions, override: CodesOverride | undefined): TensorFormat {
    if (!override) return base;
    const { type, symmetric, range, scale, zeroPoint } = override;
    const format: TensorFormat = { ...base, dtype: type ?? base.dtype, symmetric: symmetric ?? base.symmetric };
    if (range) format.ranges = pairsOf(range).map(([min, max]) => ({ min: Math.fround(min), max: Math.fround(max) }));
    if (scale !== undefined) {
      const zeros = listOf(zeroPoint!);
      format.fixed = listOf(scale).map((s, i) => ({ scale: Math.fround(s), zeroPoint: zeros[i] }));
    }
    return format;
  }
}

/** Scale and zero point of one activation. `observed` may be missing only when the format says everything. */
export function activationScale(format: TensorFormat, observed: Range | undefined): ScaleAndZeroPoint | undefined {
  if (format.fixed) return format.fixed[0];
  const range = format.ranges?.[0] ?? observed;
  return range && scaleOfRange(range, format);
}
