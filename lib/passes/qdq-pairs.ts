/** Reading QuantizeLinear and DequantizeLinear nodes: what the passes over Q/DQ models ask of them. */
import type { Graph, Node, Value } from '../graph/graph';
import { type Quantization, roundHalfEven } from '../ops/families/quantization';
import type { DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { onlyConsumer } from './matching';

/** The parameters of one Q or DQ node whose scale and zero point are constants. */
export interface PairParams {
  readonly node: Node;
  readonly scale: Float32Array;
  /** As long as `scale`. */
  readonly zeroPoint: readonly number[];
  /** The type of the codes. */
  readonly dtype: DType;
  /** Set when there is one scale per index of this axis (not normalized), else there is one scale for all. */
  readonly axis: number | undefined;
}

export function isQuantize(node: Node | null | undefined): node is Node {
  return !!node && node.op === 'QuantizeLinear' && isPairDomain(node);
}

export function isDequantize(node: Node | null | undefined): node is Node {
  return !!node && node.op === 'DequantizeLinear' && isPairDomain(node);
}

function isPairDomain({ domain }: Node): boolean {
  return domain === '' || domain === 'com.microsoft';
}

/**
 * Parameters of a Q or DQ node; undefined when they are not constant, not positive and finite, blocked, or in float16.
 */
export function paramsOf(node: Node): PairParams | undefined {
  const scale = node.input(1)?.constant;
  const zeroPointValue = node.input(2);
  const zeroPoint = zeroPointValue?.constant;
  if (scale?.type !== 'float32' || (zeroPointValue && !zeroPoint) || node.attributes.int('block_size', 0) !== 0)
    return undefined;
  const scales = scale.data as Float32Array;
  if (scales.length === 0 || !scales.every((s) => s > 0 && s < Number.POSITIVE_INFINITY)) return undefined;
  if (zeroPoint && zeroPoint.size !== scale.size) return undefined;
  const dtype = zeroPoint?.type ?? codesType(node);
  if (dtype === undefined || scale.dims.length > 1) return undefined;
  return {
    node,
    scale: scales,
    zeroPoint: zeroPoint
      ? Array.from(zeroPoint.data as ArrayLike<number>, Number)
      : new Array<number>(scale.size).fill(0),
    dtype,
    axis: scale.size === 1 ? undefined : node.attributes.int('axis', 1),
  };
}

function codesType(node: Node): DType | undefined {
  if (node.op === 'QuantizeLinear') return node.attributes.has('output_dtype') ? undefined : 'uint8';
  const codes = node.requiredInput(0);
  return codes.constant?.type ?? codes.type?.dtype;
}

/** A value that comes out of a DequantizeLinear of 8-bit codes. */
export interface Dequantized extends PairParams {
  readonly codes: Value;
}

/** What stands behind a dequantized value; undefined when it is anything else. */
export function dequantizedFrom(value: Value | null): Dequantized | undefined {
  const node = value?.producer;
  if (!isDequantize(node)) return undefined;
  const params = paramsOf(node);
  if (!params || (params.dtype !== 'uint8' && params.dtype !== 'int8')) return undefined;
  return { ...params, codes: node.requiredInput(0) };
}

/** The parameters as those of a tensor with one scale and 8-bit codes; undefined when they are not. */
export function perTensor(params: PairParams | undefined): Quantization | undefined {
  if (!params || params.axis !== undefined) return undefined;
  const { dtype } = params;
  if (dtype !== 'uint8' && dtype !== 'int8') return undefined;
  return { scale: params.scale[0], zeroPoint: params.zeroPoint[0], dtype };
}

/** Inputs 1 and 2 of a Q or DQ node, with the zero point spelled out. */
export function paramValues(graph: Graph, params: PairParams): [scale: Value, zeroPoint: Value] {
  const scale = params.node.requiredInput(1);
  const given = params.node.input(2);
  if (given) return [scale, given];
  const zeros = new Tensor(params.dtype as 'uint8', params.zeroPoint, scale.constant!.dims);
  return [scale, graph.newConstant(`${scale.name}_zero_point`, zeros)];
}

/** The quantizer that alone reads `value`; undefined when the float value is wanted as well. */
export function onlyQuantizer(
  graph: Graph,
  value: Value,
  captured: ReadonlySet<Value>,
): { node: Node; params: PairParams; to: Quantization } | undefined {
  const node = onlyConsumer(graph, value, captured);
  if (!isQuantize(node) || node.requiredInput(0) !== value) return undefined;
  const params = paramsOf(node);
  const to = perTensor(params);
  return params && to && { node, params, to };
}

/** int32 codes of a bias at scale fl(inputScale * weightScale), zero point 0. `weightScale` has one element or bias.length. */
export function quantizeBias(
  bias: Float32Array,
  inputScale: number,
  weightScale: Float32Array,
): { codes: Int32Array; scale: Float32Array } {
  const scale = weightScale.map((s) => inputScale * s);
  const codes = Int32Array.from(bias, (value, i) => {
    const code = roundHalfEven(value / scale[scale.length === 1 ? 0 : i]);
    return Math.min(Math.max(code, -(2 ** 31)), 2 ** 31 - 1);
  });
  return { codes, scale };
}
