/**
 * The typed description of the native addon (`q8.node`): the only one. C++ side: native/addon.cc and native/binding/.
 * Every function validates bounds and throws plain Errors whose `code` is a Q8ErrorCode; lib/ turns them into Q8Error.
 * Users never see these types; lib/index.ts is the public API.
 */

export type Codes = Uint8Array | Int8Array;
export type Data =
  | Float32Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float64Array;

// ---------------------------------------------------------------------------------------------------------------------
// CPU (native/binding/cpu_binding.cc).

export interface NativeCpuInfo {
  cpu: string;
  features: string[];
  /** Best first. */
  isa: { compiled: string[]; supported: string[]; selected: string; label: string; forced: boolean };
  /** Forms of the selected GEMM: for any weights, and for bounded ones if they have their own. Tiles: most rows first. */
  gemm: { instruction: string; tiles: string[] }[];
  cores: number;
  affinity: number;
  /** 0 = no limit. */
  cgroupQuota: number;
  threads: number;
  /** Bytes; 0 = unknown. */
  caches: { l1: number; l2: number; l3: number };
}

export function cpuInfo(): NativeCpuInfo;

/**
 * Levels that were chosen but do not compute what the scalar kernels do, best first; cpuInfo().isa.selected is what is used
 * instead. `mismatch` says which kernel differs. The first call of a process runs the self-test: about a millisecond.
 */
export function refusedLevels(): { isa: string; mismatch: string }[];

/**
 * Multiply-adds per nanosecond of one thread in a loop on registers with the selected ISA, of the faster form of its GEMM.
 * Blocks for about so many milliseconds.
 */
export function measurePeak(milliseconds: number): number;

/**
 * Bytes per nanosecond at which one thread reads a buffer of `bytes` again and again: of the cache that holds it, or of
 * main memory. Blocks for about 0.05 s.
 */
export function measureBandwidth(bytes: number): number;

// ---------------------------------------------------------------------------------------------------------------------
// GEMM (native/binding/qgemm_binding.cc). See lib/kernels/qgemm.ts for the user's view.

/** Opaque, immutable weights in the layout of the selected ISA, with column sums. Freed by GC or release(). */
export interface PackedGemm {
  readonly k: number;
  readonly n: number;
  readonly bytes: number;
  release(): void;
}

/**
 * b is K x N row-major (N x K with transposeB); zeroPoint has 1 or N elements of b's type. `isa` (default: the selected one)
 * lets tests pack for, and so multiply with, any level that this CPU supports.
 */
export function packGemm(
  b: Codes,
  k: number,
  n: number,
  ldb: number,
  transposeB: boolean,
  zeroPoint: Codes | null,
  isa?: string,
): PackedGemm;

/**
 * The numbers of a qgemm call by position: m, n, k, lda, ldb, transposeB, aZeroPoint, threads, kind of output (0 int32,
 * 1 float32, 2 uint8, 3 int8), scalar scale, output zero point, min, max, presence bits (1 scale, 2 bias, 4 bZeroPoint,
 * 8 b is a PackedGemm), batch, strideA, strideB, strideC, dynamicQuantize (0 none, 1 tensor, 2 row).
 */
export type QgemmWords = Float64Array;

/** C (m x n, dense) = A * B for each product of the batch, with the output stage that `words` tells. Absent arguments may be anything. */
export function qgemm(
  words: QgemmWords,
  a: Codes | Float32Array,
  b: Codes | PackedGemm,
  out: Int32Array | Float32Array | Codes,
  scale: Float32Array | null,
  bias: Int32Array | Float32Array | null,
  bZeroPoint: Codes | null,
): void;

/** The same on the pool. The arrays are pinned until the promise settles; `words` is read before the call returns. */
export function qgemmAsync(
  words: QgemmWords,
  a: Codes | Float32Array,
  b: Codes | PackedGemm,
  out: Int32Array | Float32Array | Codes,
  scale: Float32Array | null,
  bias: Int32Array | Float32Array | null,
  bZeroPoint: Codes | null,
  cancel: Int32Array | null,
): Promise<void>;

// ---------------------------------------------------------------------------------------------------------------------
// Programs (native/binding/program_binding.cc, native/program/): a compiled plan of fixed shapes, run by one call.

/** Weights of a convolution, packed for the selected ISA; independent of scales and of the input's zero point. */
export interface PackedConv {
  readonly bytes: number;
  release(): void;
}

/**
 * w is OIHW, dims [M, C/group, KH, KW]; zeroPoint has 1 or M elements. Depthwise weights (C/group == 1 and M == group)
 * go to the depthwise layout. `isa` as in packGemm.
 */
export function packConv(
  w: Codes,
  dims: readonly number[],
  group: number,
  zeroPoint: Codes | null,
  isa?: string,
): PackedConv;

/** float32 weights, OIHW, same rules. */
export function packConvF32(w: Float32Array, dims: readonly number[], group: number): PackedConv;

/** float32 B, K x N (N x K with transposeB). */
export function packGemmF32(b: Float32Array, k: number, n: number, transposeB: boolean): PackedGemm;

/** Packed weights of any kind. */
export type PackedWeights = PackedGemm | PackedConv;

/**
 * The weights that some thread of the process has shared under this name and that somebody still uses, as a handle of this
 * thread's own; null when there are none.
 */
export function findWeights(name: string): PackedWeights | null;
/** Lets other threads find weights. The name must tell their content. */
export function shareWeights(name: string, weights: PackedWeights): void;
/** How many shared weights are alive in the process. */
export function sharedWeights(): number;

/**
 * Allocations that running programs have made in this process, all threads together; null where the build does not count
 * them.
 */
export function allocationCount(): number | null;

export type BufferDType =
  | 'float32'
  | 'uint8'
  | 'int8'
  | 'int32'
  | 'int64'
  | 'bool'
  | 'float64'
  | 'uint16'
  | 'int16'
  | 'uint32'
  | 'uint64'
  | 'float16'
  | 'bfloat16';

/** One tensor of a program. Elements are dense. Arena offsets are bytes, multiples of 64. */
export type ProgramBuffer = { dtype: BufferDType; elements: number } & (
  | { kind: 'input'; index: number }
  | { kind: 'output'; index: number }
  | { kind: 'constant'; data: Data }
  | { kind: 'arena'; offset: number }
);

/** Index into ProgramDescription.buffers. */
export type BufferId = number;

/** Spatial geometry of convolution and pooling. NHWC; 1-D uses height 1. Padding is given by its begin only. */
export interface WindowGeometry {
  batch: number;
  height: number;
  width: number;
  channels: number;
  outHeight: number;
  outWidth: number;
  kernelHeight: number;
  kernelWidth: number;
  strideHeight: number;
  strideWidth: number;
  dilationHeight: number;
  dilationWidth: number;
  padTop: number;
  padLeft: number;
  /** Of volumes only, then all of them: the axis in front of height. */
  depth?: number;
  outDepth?: number;
  kernelDepth?: number;
  strideDepth?: number;
  dilationDepth?: number;
  padFront?: number;
}

/**
 * int32 accumulator -> 8-bit code: q = roundHalfEven(clamp(float(acc + bias) * multiplier, min - zp, max - zp)) + zp.
 * `multiplier` has 1 or N elements, `bias` N or none; min and max are codes of the output type.
 */
export interface RequantizeSpec {
  kind: 'requantize';
  multiplier: Float32Array;
  bias: Int32Array | null;
  zeroPoint: number;
  min: number;
  max: number;
}
/** int32 accumulator -> float32: float(acc) * scale + bias (multiply and add rounded separately). */
export interface DequantizeSpec {
  kind: 'dequantize';
  scale: Float32Array;
  bias: Float32Array | null;
}
/** The int32 accumulator itself (plus bias, if any). */
export interface AccumulateSpec {
  kind: 'int32';
  bias: Int32Array | null;
}
export type OutputSpec = RequantizeSpec | DequantizeSpec | AccumulateSpec;

/**
 * What becomes of 8-bit results before other steps see them, in order, as if each were a step of its own: a table, or a
 * binary operator with an operand of the results' shape (or, with operandRepeats, one row that all rows read). All codes
 * have the dtype of y; the operand may have the other one.
 */
export type FinishSpec =
  | { kind: 'lut'; table: Uint8Array }
  | {
      kind: QBinaryStep['kind'];
      operand: BufferId;
      /** Whether the operand comes first. */
      operandFirst: boolean;
      operandRepeats: boolean;
      scale: number;
      zeroPoint: number;
      operandScale: number;
      operandZeroPoint: number;
      yScale: number;
      yZeroPoint: number;
    };

/** Of steps whose result is a matrix of rows. */
export interface RowsOutput {
  finish?: FinishSpec[];
  /** Elements between rows of y, and before the first one: a part of a concatenation. Default: dense. */
  yStride?: number;
  yOffset?: number;
}

/** Convolution of 8-bit x (NHWC); y NHWC of uint8/int8 (requantize), float32 (dequantize) or int32. */
export interface QConvStep extends WindowGeometry, RowsOutput {
  op: 'qconv';
  x: BufferId;
  y: BufferId;
  weights: PackedConv;
  xZeroPoint: number;
  outChannels: number;
  group: number;
  output: OutputSpec;
}
/** A [M, K] x packed B; M counts all leading dimensions. */
export interface QGemmStep extends RowsOutput {
  op: 'qgemm';
  x: BufferId;
  y: BufferId;
  m: number;
  weights: PackedGemm;
  xZeroPoint: number;
  output: OutputSpec;
}
/** Smallest and largest element of float32 x, 0 included: y is float32 [low, high]. */
export interface RangeStep {
  op: 'range';
  x: BufferId;
  y: BufferId;
}
/** float32 -> uint8 with the scale and zero point of `range`, as DynamicQuantizeLinear derives them. */
export interface QuantizeDynamicStep {
  op: 'quantize_dynamic';
  x: BufferId;
  range: BufferId;
  y: BufferId;
}
/** The scale of a range x when y is float32, its zero point when y is uint8. */
export interface RangeParameterStep {
  op: 'range_parameter';
  x: BufferId;
  y: BufferId;
}
/** Scale (float32) and zero point (of the dtype of x) that an earlier step computes, one element each. */
export interface RunTimeInput {
  /** Multiplies the scale of `output`; null when that is int32. */
  xScale: BufferId | null;
  xZeroPoint: BufferId;
  output: DequantizeSpec | AccumulateSpec;
}
/** QGemmStep with parameters of x from buffers. */
export interface QGemmDynamicStep extends Omit<QGemmStep, 'op' | 'xZeroPoint' | 'output'>, RunTimeInput {
  op: 'qgemm_dynamic';
}
/** QConvStep with parameters of x from buffers. */
export interface QConvDynamicStep extends Omit<QConvStep, 'op' | 'xZeroPoint' | 'output'>, RunTimeInput {
  op: 'qconv_dynamic';
}
/** Batched A [M, K] x B [K, N], both run-time 8-bit tensors with scalar zero points; B is packed in the run. */
export interface QMatMulStep {
  op: 'qmatmul';
  a: BufferId;
  b: BufferId;
  y: BufferId;
  m: number;
  n: number;
  k: number;
  /** Element offset of A, B and Y for each batch item: [a0, b0, y0, a1, b1, y1, ...]. */
  batchOffsets: Int32Array;
  aZeroPoint: number;
  bZeroPoint: number;
  output: OutputSpec;
}
/**
 * float32 -> 8-bit: roundHalfEven(clamp(x / scale, min - zp, max - zp)) + zp (true division). With `axis`, scale and
 * zeroPoint have one element per index of the middle dimension of [outer, axisSize, inner].
 */
export interface QuantizeStep {
  op: 'quantize';
  x: BufferId;
  y: BufferId;
  scale: Float32Array;
  zeroPoint: Int32Array;
  outer: number;
  axisSize: number;
  inner: number;
}
/** 8-bit or int32 -> float32: (float)(q - zp) * scale; axis as in QuantizeStep. */
export interface DequantizeStep {
  op: 'dequantize';
  x: BufferId;
  y: BufferId;
  scale: Float32Array;
  zeroPoint: Int32Array;
  outer: number;
  axisSize: number;
  inner: number;
}
/** float32 [B, C, S] -> 8-bit [B, S, C] (NCHW to NHWC) in one pass; one scale. */
export interface QuantizeNhwcStep {
  op: 'quantize_nhwc';
  x: BufferId;
  y: BufferId;
  scale: number;
  zeroPoint: number;
  batch: number;
  channels: number;
  spatial: number;
}
/** 8-bit [B, S, C] -> float32 [B, C, S] (NHWC to NCHW) in one pass; one scale. */
export interface DequantizeNchwStep {
  op: 'dequantize_nchw';
  x: BufferId;
  y: BufferId;
  scale: number;
  zeroPoint: number;
  batch: number;
  channels: number;
  spatial: number;
}
/** y[i] = table[x[i]] on 8-bit codes (the byte pattern is the index). */
export interface LutStep {
  op: 'lut';
  x: BufferId;
  y: BufferId;
  table: Uint8Array;
}
/**
 * c = quantize(op(dequantize(a), dequantize(b))) in float32, elementwise with broadcasting. `shape` is the output's, the
 * strides are in elements (0 = broadcast). Each of a, b and y may be uint8 or int8.
 */
export interface QBinaryStep {
  op: 'qbinary';
  kind: 'add' | 'sub' | 'mul' | 'div';
  a: BufferId;
  b: BufferId;
  y: BufferId;
  shape: number[];
  aStrides: number[];
  bStrides: number[];
  aScale: number;
  aZeroPoint: number;
  bScale: number;
  bZeroPoint: number;
  yScale: number;
  yZeroPoint: number;
}
/** NHWC -> [N, 1, 1, C]: round((sum - n*xzp) * multiplier) + zp, clamped to the type (operators.md 4.6). */
export interface QGlobalAveragePoolStep {
  op: 'qglobal_average_pool';
  x: BufferId;
  y: BufferId;
  batch: number;
  spatial: number;
  channels: number;
  xZeroPoint: number;
  multiplier: number;
  yZeroPoint: number;
}
/** NHWC 8-bit average pooling, float32 in between: quantize(mean(dequantize(x))), sum in window order. */
export interface QAveragePoolStep extends WindowGeometry {
  op: 'qaverage_pool';
  x: BufferId;
  y: BufferId;
  xScale: number;
  xZeroPoint: number;
  yScale: number;
  yZeroPoint: number;
  countIncludePad: boolean;
  /** With countIncludePad: pads at the end, to know which taps lie in the padded area (ceil mode goes beyond it). */
  padBottom: number;
  padRight: number;
}
/** NHWC max pooling on uint8, int8 or float32. */
export interface MaxPoolStep extends WindowGeometry {
  op: 'max_pool';
  x: BufferId;
  y: BufferId;
}
/** NHWC float32 average pooling. */
export interface AveragePoolStep extends WindowGeometry {
  op: 'average_pool';
  x: BufferId;
  y: BufferId;
  countIncludePad: boolean;
  padBottom: number;
  padRight: number;
}
/** float32 convolution, NHWC, then clamp to [min, max] (infinite when there is none). */
export interface ConvStep extends WindowGeometry {
  op: 'conv';
  x: BufferId;
  y: BufferId;
  weights: PackedConv;
  outChannels: number;
  group: number;
  bias: Float32Array | null;
  min: number;
  max: number;
}
/** float32 A [M, K] x packed B, + bias per column, then clamp. */
export interface GemmStep {
  op: 'gemm';
  x: BufferId;
  y: BufferId;
  m: number;
  weights: PackedGemm;
  bias: Float32Array | null;
  min: number;
  max: number;
}
/** float32 batched A x B with both operands computed at run time; batchOffsets as in QMatMulStep. */
export interface MatMulStep {
  op: 'matmul';
  a: BufferId;
  b: BufferId;
  y: BufferId;
  m: number;
  n: number;
  k: number;
  batchOffsets: Int32Array;
}
export type UnaryKind =
  | 'abs'
  | 'neg'
  | 'relu'
  | 'leaky_relu'
  | 'clip'
  | 'sigmoid'
  | 'hard_sigmoid'
  | 'hard_swish'
  | 'tanh'
  | 'exp'
  | 'log'
  | 'sqrt'
  | 'reciprocal'
  | 'erf'
  | 'gelu'
  | 'gelu_tanh'
  | 'elu'
  | 'softplus'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'silu';
/** float32 elementwise. alpha, beta: leaky_relu(alpha), clip(alpha = min, beta = max), hard_sigmoid(alpha, beta), elu(alpha). */
export interface UnaryStep {
  op: 'unary';
  kind: UnaryKind;
  x: BufferId;
  y: BufferId;
  alpha: number;
  beta: number;
}
/** float32 elementwise with broadcasting. */
export interface BinaryStep {
  op: 'binary';
  kind: 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'prelu';
  a: BufferId;
  b: BufferId;
  y: BufferId;
  shape: number[];
  aStrides: number[];
  bStrides: number[];
}
/**
 * float32 elementwise operators one after the other, each on the result of the one before and the first on x, in one pass
 * over memory. An operand has the shape of y ('dense'), or is one row of `columns` elements that all rows of y read ('row'),
 * or one number ('scalar').
 */
export interface ChainStep {
  op: 'chain';
  x: BufferId;
  y: BufferId;
  columns: number;
  parts: ChainPart[];
}
export type ChainPart =
  | { kind: UnaryKind; alpha: number; beta: number }
  | { kind: BinaryStep['kind']; operand: BufferId; operandFirst: boolean; form: 'dense' | 'row' | 'scalar' };
/** y = condition ? a : b, elementwise with broadcasting. condition is bool, the others have one dtype. */
export interface WhereStep {
  op: 'where';
  condition: BufferId;
  a: BufferId;
  b: BufferId;
  y: BufferId;
  shape: number[];
  conditionStrides: number[];
  aStrides: number[];
  bStrides: number[];
}
/** float32 softmax over the middle dimension of [outer, axisSize, inner]. With `guarded`, NaN is 0. */
export interface SoftmaxStep {
  op: 'softmax';
  x: BufferId;
  y: BufferId;
  outer: number;
  axisSize: number;
  inner: number;
  guarded: boolean;
}
/** float32 reduction over the middle dimension of [outer, axisSize, inner]. */
export interface ReduceStep {
  op: 'reduce';
  kind: 'mean' | 'sum' | 'max' | 'min';
  x: BufferId;
  y: BufferId;
  outer: number;
  axisSize: number;
  inner: number;
}
/** float32 layer normalization over the last `size` elements of each row. */
export interface LayerNormStep {
  op: 'layer_norm';
  x: BufferId;
  scale: BufferId;
  bias: BufferId | null;
  y: BufferId;
  outer: number;
  size: number;
  epsilon: number;
}
/**
 * softmax(q k' * scale + mask) v for each head, float32. Row r of batch item b of q is at qOffset + (b * length + r) * qStride,
 * head h at h * headSize in it; k and v have keyLength rows; y is dense [batch, length, heads * valueSize].
 */
export interface AttentionStep {
  op: 'attention';
  q: BufferId;
  k: BufferId;
  v: BufferId;
  y: BufferId;
  qOffset: number;
  kOffset: number;
  vOffset: number;
  qStride: number;
  kStride: number;
  vStride: number;
  batch: number;
  heads: number;
  length: number;
  keyLength: number;
  headSize: number;
  valueSize: number;
  scale: number;
  /** Query r sees keys up to r + keyLength - length only. */
  causal: boolean;
  /**
   * int32. 'keys': [batch, keyLength], a key that is not above 0 gets `maskValue` added; 'pairs': the same for each query,
   * [batch, length, keyLength]; 'lengths': [batch], keys that count.
   */
  mask: BufferId | null;
  maskKind: 'keys' | 'pairs' | 'lengths';
  maskValue: number;
  /** float32 added to scores: [length, keyLength] at b * biasBatchStride + h * biasHeadStride. */
  bias: BufferId | null;
  biasBatchStride: number;
  biasHeadStride: number;
}
/** y[i0, i1, ...] = x[sum(i * strides) + offset]: transpose, slice (also negative steps), expand. Any element size. */
export interface StridedCopyStep {
  op: 'strided_copy';
  x: BufferId;
  y: BufferId;
  /** Shape of the output. */
  shape: number[];
  /** Input strides in elements per output axis; may be 0 or negative. */
  strides: number[];
  offset: number;
}
/**
 * Concatenation of blocks: in each of `outer` rows of `row` elements, input i gives inners[i] elements from offsets[i] on,
 * through a table if it has one. Other steps may have written the rest of the row.
 */
export interface ConcatStep {
  op: 'concat';
  inputs: BufferId[];
  y: BufferId;
  outer: number;
  inners: number[];
  offsets: number[];
  row: number;
  /** 256-entry tables for 8-bit inputs whose scale differs from the output's; null = copy. */
  tables: (Uint8Array | null)[];
}
/** Constant padding. begins may be negative (crop). `value` is one element of y's type as bytes. */
export interface PadStep {
  op: 'pad';
  x: BufferId;
  y: BufferId;
  shape: number[];
  begins: number[];
  outShape: number[];
  value: Uint8Array;
}
/** y[o, i, :] = x[o, indices[i], :]: gather with constant indices, nearest resize along one axis. */
export interface GatherStep {
  op: 'gather';
  x: BufferId;
  y: BufferId;
  outer: number;
  axisSize: number;
  inner: number;
  indices: Int32Array;
}
/**
 * y[o, i, :] = sum of weights[i * taps + t] * x[o, indices[i * taps + t], :] over t < taps, for i < count: linear or cubic
 * resize along one axis. float32, fma in the order of taps from 0, without those of weight 0; taps: 1 to 64.
 */
export interface ResampleStep {
  op: 'resample';
  x: BufferId;
  y: BufferId;
  outer: number;
  axisSize: number;
  inner: number;
  count: number;
  taps: number;
  indices: Int32Array;
  weights: Float32Array;
}
/** {@link GatherStep} with run-time indices (int64 or int32 buffer); an index out of range fails the run. */
export interface GatherDynamicStep {
  op: 'gather_dynamic';
  x: BufferId;
  indices: BufferId;
  y: BufferId;
  outer: number;
  axisSize: number;
  inner: number;
  count: number;
}

export type ProgramStep =
  | QConvStep
  | QConvDynamicStep
  | QGemmStep
  | QGemmDynamicStep
  | RangeStep
  | QuantizeDynamicStep
  | RangeParameterStep
  | QMatMulStep
  | QuantizeStep
  | DequantizeStep
  | QuantizeNhwcStep
  | DequantizeNchwStep
  | LutStep
  | QBinaryStep
  | QGlobalAveragePoolStep
  | QAveragePoolStep
  | MaxPoolStep
  | AveragePoolStep
  | ConvStep
  | GemmStep
  | MatMulStep
  | UnaryStep
  | BinaryStep
  | ChainStep
  | WhereStep
  | SoftmaxStep
  | ReduceStep
  | LayerNormStep
  | AttentionStep
  | StridedCopyStep
  | ConcatStep
  | PadStep
  | GatherStep
  | ResampleStep
  | GatherDynamicStep;

export interface ProgramDescription {
  buffers: ProgramBuffer[];
  steps: ProgramStep[];
  arenaBytes: number;
}

/**
 * A compiled plan. Stateless between runs; each run takes an arena of its own from an internal free list, so that several
 * runs may be in flight. Inputs and outputs are indexed by ProgramBuffer.index.
 */
export interface Program {
  /** Runs on the calling thread (plus `threads - 1` pool threads; 0 = all). */
  runSync(inputs: Data[], outputs: Data[], threads: number): void;
  /** Runs on the pool. The buffers are pinned until the promise settles. `cancel` (one Int32, set to 1 to abort) is polled per step. */
  run(inputs: Data[], outputs: Data[], threads: number, cancel: Int32Array | null): Promise<void>;
  /** Nanoseconds of each step of the last profiled run. */
  profile(inputs: Data[], outputs: Data[], threads: number): Float64Array;
  /** How each step computes, where there are several ways: 'pointwise', 'window', 'depthwise' and the like, else ''. */
  kernels(): string[];
  release(): void;
}

/**
 * Builds a program; the description is copied. `isa` names the instruction set of the vector operators (the selected one by
 * default); packed weights bring their own.
 * @throws with the step's index in the message when a description is inconsistent or out of bounds.
 */
export function createProgram(description: ProgramDescription, isa?: string): Program;
