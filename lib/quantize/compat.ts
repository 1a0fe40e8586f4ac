/**
 * What ONNX Runtime's Python quantizer (1.30) does otherwise than q8 by default, for `compat: 'onnxruntime'`: which
 * operators take part and how, which types and symmetry constants get, when scales grow for a bias. With equal ranges and
 * options, scales, zero points and codes are then the same, bit for bit. Where it is wrong, q8 refuses instead of following.
 */
import { expected } from '../errors';
import type { Node } from '../graph/graph';
import type { QuantTrait } from '../ops/define-op';
import { quantTraitOf } from '../ops/registry';
import { type CodeDType, codeRange } from '../tensor/dtype';
import type { QuantPlan } from './plan';
import type { Representation } from './representation';
import type { Codes } from './scale';

type Format = Representation['format'];

const ELEMENTWISE: QuantTrait = { kind: 'elementwise' };
const AGNOSTIC: QuantTrait = { kind: 'agnostic' };
const TABLE: QuantTrait = { kind: 'agnostic', readsTable: true };

const QDQ_TRAITS: Readonly<Record<string, QuantTrait>> = {
  ...Object.fromEntries(
    'Add Concat CumSum GlobalAveragePool LeakyRelu Mul Sigmoid'.split(' ').map((op) => [op, ELEMENTWISE]),
  ),
  ...Object.fromEntries(
    'AveragePool Flatten MaxPool Resize Reshape Slice Split Squeeze TopK Transpose Unsqueeze'
      .split(' ')
      .map((op) => [op, AGNOSTIC]),
  ),
  Gather: TABLE,
  GatherElements: TABLE,
  MatMul: { kind: 'compute', weight: 1, axis: (_node, rank) => (rank > 1 ? 1 : undefined), constantsAreWeights: true },
};

const QOPERATOR_TRAITS: Readonly<Record<string, QuantTrait>> = {
  ...Object.fromEntries(
    'Add AveragePool Concat GlobalAveragePool LeakyRelu Mul Sigmoid'.split(' ').map((op) => [op, ELEMENTWISE]),
  ),
  ...Object.fromEntries(
    'Flatten MaxPool Pad Resize Reshape Split Squeeze Transpose Unsqueeze'.split(' ').map((op) => [op, AGNOSTIC]),
  ),
};

/** Without codes of its input, this one has no integer form. */
function isTable(node: Node): boolean {
  return node.op === 'Gather' && node.requiredInput(0).constant !== undefined;
}

/** Operators whose own trait says what the tool does. */
const AS_USUAL: Readonly<Record<Format, ReadonlySet<string>>> = {
  qdq: new Set([
    'Clip',
    'Conv',
    'ConvTranspose',
    'Gemm',
    'InstanceNormalization',
    'LayerNormalization',
    'Pad',
    'Relu',
    'Softmax',
  ]),
  qoperator: new Set(['Clip', 'Conv', 'Gemm', 'MatMul', 'Relu', 'Softmax']),
};

/** Quantized whatever makes their inputs. */
const FORCED: Readonly<Record<Format, ReadonlySet<string>>> = {
  qdq: new Set(['Add', 'Concat', 'CumSum', 'GlobalAveragePool', 'LeakyRelu', 'Mul', 'Sigmoid', 'Softmax']),
  qoperator: new Set(['Add', 'AveragePool', 'Concat', 'LeakyRelu', 'Mul', 'Sigmoid', 'Softmax']),
};

/** How the tool quantizes a node; undefined when it leaves it in float. */
export function onnxruntimeTrait(node: Node, format: Format, nnapiSigmoid: boolean): QuantTrait | undefined {
  if (node.domain !== '') return undefined;
  if (format === 'qoperator' && nnapiSigmoid && node.op === 'Sigmoid') return quantTraitOf(node);
  if (format === 'qoperator' && isTable(node)) return TABLE;
  const own = format === 'qdq' ? QDQ_TRAITS[node.op] : QOPERATOR_TRAITS[node.op];
  return own ?? (AS_USUAL[format].has(node.op) ? quantTraitOf(node) : undefined);
}

export function isForced(node: Node, format: Format): boolean {
  return FORCED[format].has(node.op);
}

/** Type and symmetry of a weight. */
export function onnxruntimeWeight(
  op: string,
  isPerChannel: boolean,
  { format, weightType, weightSymmetric }: Pick<Representation, 'format' | 'weightType' | 'weightSymmetric'>,
): { dtype: CodeDType; symmetric: boolean } {
  const dtype = format === 'qoperator' && op === 'Conv' && isPerChannel ? 'int8' : weightType;
  const symmetric = weightSymmetric ?? isSigned(dtype);
  return { dtype, symmetric: symmetric || (format === 'qdq' && isPerChannel) };
}

/** Symmetry and range of a constant that is an operand like an activation. */
export function onnxruntimeOperand({
  format,
  activationType,
  weightType,
  activationSymmetric,
  weightSymmetric,
  reduceRange,
}: Pick<
  Representation,
  'format' | 'activationType' | 'weightType' | 'activationSymmetric' | 'weightSymmetric' | 'reduceRange'
>): { symmetric: boolean; reduceRange: boolean } {
  const isLikeWeight = format === 'qoperator' && activationType === weightType;
  return {
    symmetric: isLikeWeight ? (weightSymmetric ?? isSigned(activationType)) : activationSymmetric,
    reduceRange: format === 'qdq' && reduceRange,
  };
}

/** Whether the scales of a weight may grow for a bias. */
export function onnxruntimeGuards(
  dtype: CodeDType,
  zeroPoint: Codes,
  { format, weightType }: Pick<Representation, 'format' | 'weightType'>,
): boolean {
  const isGuarded = format === 'qdq' ? dtype === 'int8' || dtype === 'int16' : weightType === 'int8';
  return isGuarded && zeroPoint.every((z) => z === 0);
}

/** @throws ERR_Q8_INVALID_ARGUMENT for nodes of which the tool makes something wrong. */
export function checkOnnxruntimeNodes(plan: QuantPlan): void {
  for (const [node, { inputs }] of plan.nodes) {
    if (node.op !== 'Gemm' || ![...inputs.values()].some(({ kind }) => kind === 'bias')) continue;
    for (const factor of ['alpha', 'beta'] as const) {
      const value = node.attributes.float(factor, 1);
      if (value === 1) continue;
      throw expected(`${factor} 1`, `Gemm "${node.name}" with compat: 'onnxruntime'`, value, {
        node: node.name,
        hint: `onnxruntime's tool scales its bias wrongly. Exclude the node, or leave compat out.`,
      });
    }
  }
}

function isSigned(dtype: CodeDType): boolean {
  return codeRange(dtype)[0] < 0;
}
