/**
 * The operators that q8 knows, one file each, in alphabetical order; a test fails when one is missing here. Finding one by
 * name is the work of registry.ts.
 */
import type { OpDefinition } from './define-op';
import { Abs } from './abs';
import { Add } from './add';
import { And } from './and';
import { ArgMax } from './arg-max';
import { ArgMin } from './arg-min';
import { Attention } from './attention';
import { AveragePool } from './average-pool';
import { BatchNormalization } from './batch-normalization';
import { BiasGelu } from './bias-gelu';
import { Cast } from './cast';
import { Ceil } from './ceil';
import { Clip } from './clip';
import { Concat } from './concat';
import { Constant } from './constant';
import { ConstantOfShape } from './constant-of-shape';
import { Conv } from './conv';
import { ConvInteger } from './conv-integer';
import { ConvIntegerToFloat } from './conv-integer-to-float';
import { ConvTranspose } from './conv-transpose';
import { CumSum } from './cum-sum';
import { DepthToSpace } from './depth-to-space';
import { DequantizeLinear, MicrosoftDequantizeLinear } from './dequantize-linear';
import { Div } from './div';
import { Dropout } from './dropout';
import { DynamicQuantizeLinear } from './dynamic-quantize-linear';
import { DynamicQuantizeLSTM } from './dynamic-quantize-lstm';
import { DynamicQuantizeMatMul } from './dynamic-quantize-mat-mul';
import { Elu } from './elu';
import { EmbedLayerNormalization } from './embed-layer-normalization';
import { Equal } from './equal';
import { Erf } from './erf';
import { Exp } from './exp';
import { Expand } from './expand';
import { FastGelu } from './fast-gelu';
import { Flatten } from './flatten';
import { Floor } from './floor';
import { FusedConv } from './fused-conv';
import { Gather } from './gather';
import { GatherBlockQuantized } from './gather-block-quantized';
import { GatherElements } from './gather-elements';
import { GatherND } from './gather-nd';
import { Gelu, MicrosoftGelu } from './gelu';
import { Gemm } from './gemm';
import { GlobalAveragePool } from './global-average-pool';
import { GlobalMaxPool } from './global-max-pool';
import { Greater } from './greater';
import { GreaterOrEqual } from './greater-or-equal';
import { GRU } from './gru';
import { HardSigmoid } from './hard-sigmoid';
import { HardSwish } from './hard-swish';
import { Identity } from './identity';
import { If } from './if';
import { InstanceNormalization } from './instance-normalization';
import { IsNaN } from './is-nan';
import { LayerNormalization } from './layer-normalization';
import { LeakyRelu } from './leaky-relu';
import { Less } from './less';
import { LessOrEqual } from './less-or-equal';
import { Log } from './log';
import { Loop } from './loop';
import { LSTM } from './lstm';
import { MatMul } from './mat-mul';
import { MatMulInteger } from './mat-mul-integer';
import { MatMulIntegerToFloat } from './mat-mul-integer-to-float';
import { MatMulNBits } from './mat-mul-nbits';
import { Max } from './max';
import { MaxPool } from './max-pool';
import { Mean } from './mean';
import { Min } from './min';
import { Mish } from './mish';
import { Mod } from './mod';
import { Mul } from './mul';
import { Neg } from './neg';
import { NonZero } from './non-zero';
import { Not } from './not';
import { Observe } from './observe';
import { OneHot } from './one-hot';
import { Or } from './or';
import { PRelu } from './p-relu';
import { Pad } from './pad';
import { Pow } from './pow';
import { QAttention } from './q-attention';
import { QEmbedLayerNormalization } from './q-embed-layer-normalization';
import { QGemm } from './q-gemm';
import { QLinearAdd } from './q-linear-add';
import { QLinearAveragePool } from './q-linear-average-pool';
import { QLinearConcat } from './q-linear-concat';
import { MicrosoftQLinearConv, QLinearConv } from './q-linear-conv';
import { QLinearConvTranspose } from './q-linear-conv-transpose';
import { QLinearGlobalAveragePool } from './q-linear-global-average-pool';
import { QLinearLeakyRelu } from './q-linear-leaky-relu';
import { QLinearMatMul } from './q-linear-mat-mul';
import { QLinearMul } from './q-linear-mul';
import { QLinearSigmoid } from './q-linear-sigmoid';
import { QLinearSoftmax } from './q-linear-softmax';
import { QLinearWhere } from './q-linear-where';
import { MicrosoftQuantizeLinear, QuantizeLinear } from './quantize-linear';
import { Range } from './range';
import { Reciprocal } from './reciprocal';
import { ReduceL2 } from './reduce-l2';
import { ReduceMax } from './reduce-max';
import { ReduceMean } from './reduce-mean';
import { ReduceMin } from './reduce-min';
import { ReduceSum } from './reduce-sum';
import { Relu } from './relu';
import { Reshape } from './reshape';
import { Resize } from './resize';
import { Round } from './round';
import { ScatterElements } from './scatter-elements';
import { ScatterND } from './scatter-nd';
import { Selu } from './selu';
import { Shape } from './shape';
import { Sigmoid } from './sigmoid';
import { Size } from './size';
import { SkipLayerNormalization } from './skip-layer-normalization';
import { Slice } from './slice';
import { Softmax } from './softmax';
import { Softplus } from './softplus';
import { SpaceToDepth } from './space-to-depth';
import { Split } from './split';
import { Sqrt } from './sqrt';
import { Squeeze } from './squeeze';
import { Sub } from './sub';
import { Sum } from './sum';
import { TableLookup } from './table-lookup';
import { Tanh } from './tanh';
import { Tile } from './tile';
import { TopK } from './top-k';
import { Transpose } from './transpose';
import { Trilu } from './trilu';
import { Unsqueeze } from './unsqueeze';
import { Upsample } from './upsample';
import { Where } from './where';
import { Xor } from './xor';

export const OPERATORS: readonly OpDefinition[] = [
  Abs,
  Add,
  And,
  ArgMax,
  ArgMin,
  Attention,
  AveragePool,
  BatchNormalization,
  BiasGelu,
  Cast,
  Ceil,
  Clip,
  Concat,
  Constant,
  ConstantOfShape,
  Conv,
  ConvInteger,
  ConvIntegerToFloat,
  ConvTranspose,
  CumSum,
  DepthToSpace,
  DequantizeLinear,
  Div,
  Dropout,
  DynamicQuantizeLSTM,
  DynamicQuantizeLinear,
  DynamicQuantizeMatMul,
  Elu,
  EmbedLayerNormalization,
  Equal,
  Erf,
  Exp,
  Expand,
  FastGelu,
  Flatten,
  Floor,
  FusedConv,
  GRU,
  Gather,
  GatherBlockQuantized,
  GatherElements,
  GatherND,
  Gelu,
  Gemm,
  GlobalAveragePool,
  GlobalMaxPool,
  Greater,
  GreaterOrEqual,
  HardSigmoid,
  HardSwish,
  Identity,
  If,
  InstanceNormalization,
  IsNaN,
  LSTM,
  LayerNormalization,
  LeakyRelu,
  Less,
  LessOrEqual,
  Log,
  Loop,
  MatMul,
  MatMulInteger,
  MatMulIntegerToFloat,
  MatMulNBits,
  Max,
  MaxPool,
  Mean,
  MicrosoftDequantizeLinear,
  MicrosoftGelu,
  MicrosoftQLinearConv,
  MicrosoftQuantizeLinear,
  Min,
  Mish,
  Mod,
  Mul,
  Neg,
  NonZero,
  Not,
  Observe,
  OneHot,
  Or,
  PRelu,
  Pad,
  Pow,
  QAttention,
  QEmbedLayerNormalization,
  QGemm,
  QLinearAdd,
  QLinearAveragePool,
  QLinearConcat,
  QLinearConv,
  QLinearConvTranspose,
  QLinearGlobalAveragePool,
  QLinearLeakyRelu,
  QLinearMatMul,
  QLinearMul,
  QLinearSigmoid,
  QLinearSoftmax,
  QLinearWhere,
  QuantizeLinear,
  Range,
  Reciprocal,
  ReduceL2,
  ReduceMax,
  ReduceMean,
  ReduceMin,
  ReduceSum,
  Relu,
  Reshape,
  Resize,
  Round,
  ScatterElements,
  ScatterND,
  Selu,
  Shape,
  Sigmoid,
  Size,
  SkipLayerNormalization,
  Slice,
  Softmax,
  Softplus,
  SpaceToDepth,
  Split,
  Sqrt,
  Squeeze,
  Sub,
  Sum,
  TableLookup,
  Tanh,
  Tile,
  TopK,
  Transpose,
  Trilu,
  Unsqueeze,
  Upsample,
  Where,
  Xor,
];
