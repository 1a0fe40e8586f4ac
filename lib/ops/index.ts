/**
 * The operators that q8 knows, and how to find one. Files are imported in alphabetical order; a test fails when one is missing
 * from the list.
 */
import { didYouMean, Q8Error } from '../errors';
import type { Node } from '../graph/graph';
import type { OpDefinition } from './define-op';
import { Add } from './add';
import { AveragePool } from './average-pool';
import { BatchNormalization } from './batch-normalization';
import { Cast } from './cast';
import { Clip } from './clip';
import { Concat } from './concat';
import { Constant } from './constant';
import { ConstantOfShape } from './constant-of-shape';
import { Conv } from './conv';
import { ConvInteger } from './conv-integer';
import { DequantizeLinear, MicrosoftDequantizeLinear } from './dequantize-linear';
import { Div } from './div';
import { Dropout } from './dropout';
import { DynamicQuantizeLinear } from './dynamic-quantize-linear';
import { Equal } from './equal';
import { Erf } from './erf';
import { Exp } from './exp';
import { Expand } from './expand';
import { Flatten } from './flatten';
import { Gather } from './gather';
import { Gelu, MicrosoftGelu } from './gelu';
import { Gemm } from './gemm';
import { GlobalAveragePool } from './global-average-pool';
import { GlobalMaxPool } from './global-max-pool';
import { HardSigmoid } from './hard-sigmoid';
import { HardSwish } from './hard-swish';
import { Identity } from './identity';
import { LayerNormalization } from './layer-normalization';
import { LeakyRelu } from './leaky-relu';
import { MatMul } from './mat-mul';
import { MatMulInteger } from './mat-mul-integer';
import { MaxPool } from './max-pool';
import { Mul } from './mul';
import { Pad } from './pad';
import { Pow } from './pow';
import { QGemm } from './q-gemm';
import { QLinearAdd } from './q-linear-add';
import { QLinearAveragePool } from './q-linear-average-pool';
import { QLinearConcat } from './q-linear-concat';
import { MicrosoftQLinearConv, QLinearConv } from './q-linear-conv';
import { QLinearGlobalAveragePool } from './q-linear-global-average-pool';
import { QLinearLeakyRelu } from './q-linear-leaky-relu';
import { QLinearMatMul } from './q-linear-mat-mul';
import { QLinearMul } from './q-linear-mul';
import { QLinearSigmoid } from './q-linear-sigmoid';
import { QLinearSoftmax } from './q-linear-softmax';
import { QLinearWhere } from './q-linear-where';
import { MicrosoftQuantizeLinear, QuantizeLinear } from './quantize-linear';
import { ReduceL2 } from './reduce-l2';
import { ReduceMax } from './reduce-max';
import { ReduceMean } from './reduce-mean';
import { ReduceMin } from './reduce-min';
import { ReduceSum } from './reduce-sum';
import { Relu } from './relu';
import { Reshape } from './reshape';
import { Resize } from './resize';
import { Shape } from './shape';
import { Sigmoid } from './sigmoid';
import { Size } from './size';
import { Slice } from './slice';
import { Softmax } from './softmax';
import { Split } from './split';
import { Sqrt } from './sqrt';
import { Squeeze } from './squeeze';
import { Sub } from './sub';
import { TableLookup } from './table-lookup';
import { Tanh } from './tanh';
import { Transpose } from './transpose';
import { Unsqueeze } from './unsqueeze';
import { Upsample } from './upsample';
import { Where } from './where';

export const OPERATORS: readonly OpDefinition[] = [
  Add,
  AveragePool,
  BatchNormalization,
  Cast,
  Clip,
  Concat,
  Constant,
  ConstantOfShape,
  Conv,
  ConvInteger,
  DequantizeLinear,
  Div,
  Dropout,
  DynamicQuantizeLinear,
  Equal,
  Erf,
  Exp,
  Expand,
  Flatten,
  Gather,
  Gelu,
  Gemm,
  GlobalAveragePool,
  GlobalMaxPool,
  HardSigmoid,
  HardSwish,
  Identity,
  LayerNormalization,
  LeakyRelu,
  MatMul,
  MatMulInteger,
  MaxPool,
  MicrosoftDequantizeLinear,
  MicrosoftGelu,
  MicrosoftQLinearConv,
  MicrosoftQuantizeLinear,
  Mul,
  Pad,
  Pow,
  QGemm,
  QLinearAdd,
  QLinearAveragePool,
  QLinearConcat,
  QLinearConv,
  QLinearGlobalAveragePool,
  QLinearLeakyRelu,
  QLinearMatMul,
  QLinearMul,
  QLinearSigmoid,
  QLinearSoftmax,
  QLinearWhere,
  QuantizeLinear,
  ReduceL2,
  ReduceMax,
  ReduceMean,
  ReduceMin,
  ReduceSum,
  Relu,
  Reshape,
  Resize,
  Shape,
  Sigmoid,
  Size,
  Slice,
  Softmax,
  Split,
  Sqrt,
  Squeeze,
  Sub,
  TableLookup,
  Tanh,
  Transpose,
  Unsqueeze,
  Upsample,
  Where,
];

const BY_NAME = new Map(OPERATORS.map((operator) => [keyOf(operator.domain, operator.type), operator]));

function keyOf(domain: string, type: string): string {
  return `${domain === 'ai.onnx' ? '' : domain}:${type}`;
}

/** The operator of this domain ('' is ai.onnx) and type, if q8 has it. */
export function opDefinition(domain: string, type: string): OpDefinition | undefined {
  return BY_NAME.get(keyOf(domain, type));
}

/** The operator of a node. @throws ERR_Q8_UNSUPPORTED_OP when q8 does not have it. */
export function lookupOp(node: Node): OpDefinition {
  const definition = opDefinition(node.domain, node.op);
  if (!definition) throw unsupported(node);
  return definition;
}

/** The error about a node whose operator q8 does not have, with the operator that was perhaps meant. */
export function unsupported(node: Node): Q8Error {
  const domain = node.domain === '' ? 'ai.onnx' : node.domain;
  const elsewhere = OPERATORS.find((operator) => operator.type === node.op);
  const close = didYouMean(node.op, new Set(OPERATORS.map((operator) => operator.type)));
  let hint: string | undefined;
  if (elsewhere) hint = `${node.op} exists in domain ${elsewhere.domain || 'ai.onnx'}.`;
  else if (close) hint = `did you mean ${close}?`;
  return new Q8Error(
    'ERR_Q8_UNSUPPORTED_OP',
    `Operator ${domain}.${node.op} of node "${node.name}" is not supported.`,
    { node: node.name, ...(hint === undefined ? {} : { hint }) },
  );
}
