/** Which codes each tensor gets: the options, and the exceptions by tensor, as input of lib/quantize/scale.ts. */
import { type CodeDType, codeRange } from '../tensor/dtype';
import { listOf, pairsOf, type CodesOverride } from './overrides';
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
>;

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
    return this.#constant(this.#activation(), name, rank, undefined);
  }

  /**
   * Of a weight of `rank` dimensions with scales along `axis`, if given.
   * @param blockAxis the axis along which products are summed, where the weight may have blocks.
   */
  weight(name: string, rank: number, axis: number | undefined, blockAxis?: number): WeightFormat {
    const { weightType, reduceRange, minRealRange, blockSize } = this.#options;
    const block = blockSize !== undefined && blockAxis !== undefined;
    const override = this.#options.overrides[name];
    const dtype = override?.type ?? weightType;
    const isPerChannel = !block && (override?.axis === undefined ? axis : override.axis) !== undefined;
    const symmetric = this.#options.weightSymmetric ?? (isPerChannel || isSigned(dtype));
    const base = { dtype, symmetric, reduceRange, minRealRange };
    const granularity = block ? { axis: blockAxis, block: blockSize } : axis === undefined ? undefined : { axis };
    return this.#constant(base, name, rank, granularity);
  }

  /** Whether the scale of an activation depends on its own range, or else that of a conversion does. */
  needsRange(name: string, isHead: boolean): boolean {
    const formats = [isHead ? this.activation(name) : undefined, this.converted(name)?.format];
    return formats.some((format) => format && !format.fixed && !format.ranges);
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

function isSigned(dtype: CodeDType): boolean {
  return codeRange(dtype)[0] < 0;
}

export function isEightBit(dtype: CodeDType): boolean {
  return dtype === 'uint8' || dtype === 'int8';
}

/** Scale and zero point of one activation. `observed` may be missing only when the format says everything. */
export function activationScale(format: TensorFormat, observed: Range | undefined): ScaleAndZeroPoint | undefined {
  if (format.fixed) return format.fixed[0];
  const range = format.ranges?.[0] ?? observed;
  return range && scaleOfRange(range, format);
}
