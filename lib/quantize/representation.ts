/**
 * Options of static quantization that say how tensors are represented: types and symmetry of codes, granularity of
 * scales, and the details of Q/DQ pairs. All checks that need no model.
 */
import { expected } from '../errors';
import { type CodeDType, isFourBit } from '../tensor/dtype';
import { choice, flag, names } from './option-checks';
import { checkOverrides, overridesType, type TensorOverrides } from './overrides';

export type ActivationType = 'uint8' | 'int8' | 'uint16' | 'int16';

const ACTIVATION_TYPES: readonly ActivationType[] = ['uint8', 'int8', 'uint16', 'int16'];
const WEIGHT_TYPES: readonly CodeDType[] = ['int8', 'uint8', 'int16', 'uint16', 'int4', 'uint4'];
const FORMATS = ['qoperator', 'qdq'] as const;
const PAIR_DOMAINS = ['ai.onnx', 'com.microsoft'] as const;

export interface RepresentationOptions {
  /**
   * 'qoperator' (default): integer operators, the form that every runtime executes as it stands.
   * 'qdq': QuantizeLinear/DequantizeLinear pairs around float operators.
   */
  format?: 'qoperator' | 'qdq';
  /**
   * 'integer' (default): operators that some CPU runs on codes. 'all': also those that compute in float between DQ and Q on
   * every CPU (ConvTranspose, normalizations, interpolation...), for accelerators that have them; of these, 'integer'
   * stores weights as codes only.
   */
  operators?: 'integer' | 'all';
  /**
   * Which tensors share a scale besides those that only moves lie between. 'free' (default): operands of Concat, Where, Max
   * and Min that have no other reader, which costs nothing; 'always': all of them, and the two sides of AveragePool;
   * 'never': none.
   */
  shareScales?: 'free' | 'always' | 'never';
  /** Type of activations. Default 'uint8'. Those of 16 bits need format 'qdq'; the opset is raised to 21 for them. */
  activationType?: ActivationType;
  /** Type of weights. Default 'int8'. Those of 4 and 16 bits need format 'qdq'; the opset is raised to 21 for them. */
  weightType?: CodeDType;
  /** Symmetric activations. Default false. */
  activationSymmetric?: boolean;
  /** Only zero points 0 and 128 for uint8 activations, as some accelerators want. Default false. */
  restrictZeroPoints?: boolean;
  /** One weight scale per output channel. Default true. */
  perChannel?: boolean;
  /** The axis of weight scales, by operator type, where it is not that of the output channels. For format 'qdq'. */
  channelAxis?: Readonly<Record<string, number>>;
  /**
   * Weights of MatMul and Gemm have a scale for each column and each so many of the elements that are summed. For format
   * 'qdq'; the opset is raised to 21. onnxruntime has fast kernels for int4 and uint4 in blocks of 16, 32, 64, 128 or 256.
   */
  blockSize?: number;
  /** Symmetric weights. Default: true, except for unsigned weights with one scale per tensor or block. */
  weightSymmetric?: boolean;
  /** Weights of one bit less, exact on CPUs whose int8 kernels saturate. Default false. */
  reduceRange?: boolean;
  /** Floor for the width of a range; keeps scales of almost constant tensors sane. */
  minRealRange?: number;
  /** Whether biases become int32, at input scale times weight scale. Default true; false is for format 'qdq'. */
  quantizeBias?: boolean;
  /** Whether weight scales grow where a bias would not fit int32. Default true. */
  guardBias?: boolean;
  /** Products of two activations stay in float. Default false. */
  constantWeightsOnly?: boolean;
  /** Types of operators whose outputs stay in float, like 'Conv' before a sensitive operator. */
  floatOutputsOf?: readonly string[];
  /** Sigmoid gives uint8 codes of scale 1/256 instead of 1/255, which NNAPI wants. Default false. */
  nnapiSigmoid?: boolean;
  /** A Q/DQ pair for every reader of a tensor instead of one for all. For format 'qdq'. Default false. */
  pairPerConsumer?: boolean;
  /** Weights stay float behind Q and DQ, instead of codes behind DQ, as training and TensorRT want. For format 'qdq'. */
  weightPairs?: boolean;
  /** Domain of Q and DQ. Default 'ai.onnx'; 'com.microsoft' has 16-bit and 4-bit codes below opset 21. For format 'qdq'. */
  pairDomain?: 'ai.onnx' | 'com.microsoft';
  /** Exceptions by tensor. */
  overrides?: TensorOverrides;
  /**
   * 'onnxruntime': the scales, zero points and codes of ONNX Runtime's Python tool (1.30) for the same options and ranges,
   * bit by bit, where the default would choose otherwise. See docs/quantizer.md.
   */
  compat?: 'onnxruntime';
}

/** The same, checked and with defaults filled in. */
export type Representation = Required<
  Omit<RepresentationOptions, 'blockSize' | 'weightSymmetric' | 'minRealRange' | 'compat' | 'weightType'>
> &
  Pick<RepresentationOptions, 'blockSize' | 'weightSymmetric' | 'minRealRange' | 'compat'> & { weightType: CodeDType };

export const REPRESENTATION_KEYS: Record<keyof RepresentationOptions, true> = {
  format: true,
  operators: true,
  shareScales: true,
  activationType: true,
  weightType: true,
  activationSymmetric: true,
  restrictZeroPoints: true,
  perChannel: true,
  channelAxis: true,
  blockSize: true,
  weightSymmetric: true,
  reduceRange: true,
  minRealRange: true,
  quantizeBias: true,
  guardBias: true,
  constantWeightsOnly: true,
  floatOutputsOf: true,
  nnapiSigmoid: true,
  pairPerConsumer: true,
  weightPairs: true,
  pairDomain: true,
  overrides: true,
  compat: true,
};

/** @throws ERR_Q8_INVALID_ARGUMENT for wrong values and for combinations that no runtime executes. */
export function resolveRepresentation(options: RepresentationOptions): Representation {
  const activationType = choice(options, 'activationType', ACTIVATION_TYPES, 'uint8');
  const { blockSize, minRealRange, weightSymmetric } = options;
  if (minRealRange !== undefined && !(typeof minRealRange === 'number' && minRealRange > 0 && minRealRange < 3e38)) {
    throw expected('a positive number', 'the option minRealRange', minRealRange);
  }
  if (blockSize !== undefined && !(Number.isSafeInteger(blockSize) && blockSize > 0)) {
    throw expected('a positive integer', 'the option blockSize', blockSize);
  }
  if (weightSymmetric !== undefined) flag(options, 'weightSymmetric', true);
  const resolved: Representation = {
    format: choice(options, 'format', FORMATS, 'qoperator'),
    operators: choice(options, 'operators', ['integer', 'all'], 'integer'),
    shareScales: choice(options, 'shareScales', ['free', 'always', 'never'], 'free'),
    activationType,
    weightType: choice(options, 'weightType', WEIGHT_TYPES, 'int8'),
    activationSymmetric: flag(options, 'activationSymmetric', false),
    restrictZeroPoints: flag(options, 'restrictZeroPoints', false),
    perChannel: flag(options, 'perChannel', true),
    channelAxis: axesByType(options.channelAxis),
    blockSize,
    weightSymmetric,
    reduceRange: flag(options, 'reduceRange', false),
    minRealRange,
    quantizeBias: flag(options, 'quantizeBias', true),
    guardBias: flag(options, 'guardBias', true),
    constantWeightsOnly: flag(options, 'constantWeightsOnly', false),
    floatOutputsOf: names(options, 'floatOutputsOf'),
    nnapiSigmoid: flag(options, 'nnapiSigmoid', false),
    pairPerConsumer: flag(options, 'pairPerConsumer', false),
    weightPairs: flag(options, 'weightPairs', false),
    pairDomain: choice(options, 'pairDomain', PAIR_DOMAINS, 'ai.onnx'),
    overrides: checkOverrides(options.overrides, activationType),
    compat: options.compat && choice(options, 'compat', ['onnxruntime'] as const, undefined),
  };
  checkCombinations(resolved);
  return resolved;
}

function axesByType(given: unknown): Readonly<Record<string, number>> {
  if (given === undefined) return {};
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw expected('an object of axes by operator type', 'the option channelAxis', given);
  }
  for (const [op, axis] of Object.entries(given)) {
    if (!Number.isSafeInteger(axis)) throw expected('an integer', `the option channelAxis of ${op}`, axis);
  }
  return given as Record<string, number>;
}

function checkCombinations(options: Representation): void {
  const { activationType, weightType, format, overrides } = options;
  if (activationType === 'int8' && weightType === 'uint8') {
    throw expected('"int8"', 'the option weightType', weightType, {
      hint: 'no runtime has kernels for int8 activations with uint8 weights.',
    });
  }
  if (format === 'qoperator') checkIntegerOperators(options);
  if (options.perChannel && options.weightSymmetric === false && !options.blockSize && !options.compat) {
    throw expected('true', 'the option weightSymmetric', false, {
      hint: 'onnxruntime refuses weights whose zero point differs between channels; use perChannel: false.',
    });
  }
  if (options.restrictZeroPoints && (activationType !== 'uint8' || options.activationSymmetric)) {
    throw expected('uint8 activations that are not symmetric', 'the option restrictZeroPoints', true, {
      hint: 'all others have one zero point anyway, or no middle to restrict it to.',
    });
  }
  if (options.nnapiSigmoid && activationType !== 'uint8') {
    throw expected('"uint8"', 'the option activationType', activationType, {
      hint: 'nnapiSigmoid is for uint8 codes.',
    });
  }
  if (options.blockSize !== undefined) {
    const isEight = (type: CodeDType) => type === 'uint8' || type === 'int8';
    if (isEight(weightType) && isEight(activationType)) {
      throw expected('weights of 4 bits or activations of 16', 'the option blockSize', options.blockSize, {
        hint: 'onnxruntime fuses 8-bit blocks between 8-bit activations into a product that then refuses them.',
      });
    }
    if (options.reduceRange) throw expected('false', 'the option reduceRange', true, { hint: NO_BLOCK_EFFECT });
    if (options.pairDomain !== 'ai.onnx') {
      throw expected('"ai.onnx"', 'the option pairDomain', options.pairDomain, {
        hint: 'the pairs of com.microsoft know no blocks.',
      });
    }
  }
  if (options.pairPerConsumer && Object.values(overrides).some(({ convert }) => convert !== undefined)) {
    throw expected('false', 'the option pairPerConsumer', true, {
      hint: 'a tensor with a conversion (convert in overrides) has pairs by type.',
    });
  }
}

const NO_BLOCK_EFFECT = 'blocks are for 4-bit weights, of which no kernel saturates.';

/** Integer operators have 8-bit codes and decide themselves where codes begin and end. */
function checkIntegerOperators(options: Representation): void {
  const eightBit = (type: CodeDType) => type === 'uint8' || type === 'int8';
  for (const key of ['activationType', 'weightType'] as const) {
    if (eightBit(options[key])) continue;
    throw expected('"uint8" or "int8"', `the option ${key}`, options[key], {
      hint: `integer operators have 8-bit codes; ${isFourBit(options[key]) ? '4' : '16'} bits need format: 'qdq'.`,
    });
  }
  if (overridesType(options.overrides, (type) => !eightBit(type))) {
    throw expected('types of 8 bits', 'the option overrides', 'others', {
      hint: "integer operators have 8-bit codes; other types need format: 'qdq'.",
    });
  }
  const onlyQdq: [key: keyof Representation, unused: unknown][] = [
    ['blockSize', undefined],
    ['pairDomain', 'ai.onnx'],
    ['pairPerConsumer', false],
    ['quantizeBias', true],
    ['weightPairs', false],
  ];
  for (const [key, unused] of onlyQdq) {
    if (options[key] === unused) continue;
    throw expected("format: 'qdq'", `the option ${key}`, "format: 'qoperator'", {
      hint: 'it says how Q/DQ pairs are placed, and integer operators have none.',
    });
  }
  if (Object.keys(options.channelAxis).length > 0) {
    throw expected("format: 'qdq'", 'the option channelAxis', "format: 'qoperator'", {
      hint: 'each integer operator has an axis of its own.',
    });
  }
}

/** Whether a model needs opset 21: standard Q and DQ have codes of 16 and 4 bits, and blocks, from there on. */
export function needsOpset21(options: Representation): boolean {
  if (options.blockSize !== undefined) return true;
  if (options.pairDomain !== 'ai.onnx') return false;
  const isNew = (type: CodeDType) => type !== 'uint8' && type !== 'int8';
  return isNew(options.activationType) || isNew(options.weightType) || overridesType(options.overrides, isNew);
}
