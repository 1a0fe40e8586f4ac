/**
 * Presets by what a model is made for: the options that a CPU or accelerator runs best, each with its reason. Options that
 * the user gives win, and what a preset says about codes that no longer exist then is left out.
 */
import { expected } from '../errors';
import type { SettingReport } from '../report/quantize-report';
import { choice } from './option-checks';
import type { DynamicQuantizeOptions, StaticQuantizeOptions } from './options';
import type { RepresentationOptions } from './representation';

/**
 * 'vnni': x86 with AVX-VNNI or AVX-512 VNNI; 'avx2': x86 without; 'arm': ARM64; 'generic': any CPU; 'tensorrt': the
 * TensorRT provider; 'nnapi': accelerators of Android; 'qnn': Qualcomm's accelerators.
 */
export type TargetName = 'vnni' | 'avx2' | 'arm' | 'generic' | 'tensorrt' | 'nnapi' | 'qnn';
/** Those that compute scales while they run. */
export type CpuTargetName = Exclude<TargetName, 'tensorrt' | 'nnapi' | 'qnn'>;

const TARGETS: readonly TargetName[] = ['vnni', 'avx2', 'arm', 'generic', 'tensorrt', 'nnapi', 'qnn'];

/** What a preset says about one option. */
interface Choice<T> {
  value: T;
  reason: string;
  /** Whether it makes sense with what the user has chosen. Default: always. */
  fits?: (given: RepresentationOptions) => boolean;
}

type Settable = Omit<RepresentationOptions, 'overrides' | 'compat'>;
/** Of several choices the first that fits counts. */
type Preset = {
  readonly [K in keyof Settable]?: Choice<NonNullable<Settable[K]>> | readonly Choice<NonNullable<Settable[K]>>[];
};

const isPairs = ({ format }: RepresentationOptions) => format !== 'qoperator';
const hasUnsignedActivations = ({ activationType }: RepresentationOptions) => activationType !== 'int8';
const hasNoBlocks = ({ blockSize }: RepresentationOptions) => blockSize === undefined;

/** What all CPUs have in common. */
const CPU = {
  format: {
    value: 'qoperator',
    reason: 'integer operators run as they stand, whatever a runtime recognizes of Q/DQ pairs',
  },
  operators: { value: 'integer', reason: 'CPUs compute the others in float, where codes only cost accuracy' },
  activationSymmetric: { value: false, reason: 'zero points cost nothing here, and ranges after Relu use all codes' },
  perChannel: { value: true, reason: 'a scale per output channel costs no time and saves accuracy' },
} as const satisfies Preset;

const QNN_TYPES = "onnxruntime's helper for QNN takes it";
const SEVEN_BITS = 'sums of two products fit int16, so that kernels without VNNI do not saturate: exact on every CPU';
const UNSIGNED =
  'onnxruntime saturates uint8 x int8 on AVX2; its uint8 x uint8 is exact, and all 8 bits stay (q8 is exact in both)';

const STATIC: Readonly<Record<TargetName, Preset>> = {
  vnni: {
    ...CPU,
    activationType: { value: 'uint8', reason: 'VPDPBUSD multiplies unsigned by signed bytes' },
    weightType: { value: 'int8', reason: 'VPDPBUSD multiplies unsigned by signed bytes' },
    reduceRange: { value: false, reason: 'VPDPBUSD sums in int32 and does not saturate' },
  },
  avx2: {
    ...CPU,
    activationType: { value: 'uint8', reason: 'byte products of AVX2 have an unsigned side' },
    weightType: { value: 'uint8', reason: UNSIGNED, fits: hasUnsignedActivations },
    reduceRange: [
      {
        value: false,
        reason: 'products of unsigned bytes are summed in int32',
        fits: ({ weightType = 'uint8', activationType = 'uint8' }) =>
          weightType === 'uint8' && activationType === 'uint8',
      },
      { value: true, reason: SEVEN_BITS, fits: hasNoBlocks },
    ],
  },
  arm: {
    ...CPU,
    activationType: { value: 'int8', reason: 'SDOT and SMMLA multiply signed by signed bytes' },
    weightType: { value: 'int8', reason: 'SDOT and SMMLA multiply signed by signed bytes' },
    weightSymmetric: {
      value: true,
      reason: "onnxruntime's fastest kernels for ARM64 are those of weights without zero points",
      fits: ({ weightType }) => weightType === undefined || weightType === 'int8',
    },
    reduceRange: { value: false, reason: 'SDOT and SMMLA sum in int32 and do not saturate' },
  },
  generic: {
    ...CPU,
    activationType: { value: 'uint8', reason: 'every CPU kernel takes it' },
    weightType: { value: 'int8', reason: 'every CPU kernel takes it beside uint8 activations' },
    reduceRange: { value: true, reason: SEVEN_BITS, fits: hasNoBlocks },
  },
  tensorrt: {
    format: { value: 'qdq', reason: 'TensorRT reads Q/DQ pairs only' },
    operators: { value: 'integer', reason: 'layers that TensorRT computes in float only lose accuracy by pairs' },
    activationType: { value: 'int8', reason: 'TensorRT has no uint8 codes' },
    activationSymmetric: { value: true, reason: 'TensorRT wants zero points of 0' },
    weightType: { value: 'int8', reason: 'TensorRT has no uint8 codes' },
    weightSymmetric: { value: true, reason: 'TensorRT wants zero points of 0' },
    perChannel: { value: true, reason: 'TensorRT takes a scale per output channel for weights' },
    reduceRange: { value: false, reason: 'tensor cores sum in int32 and do not saturate' },
    quantizeBias: { value: false, reason: 'TensorRT adds biases in float', fits: isPairs },
    weightPairs: {
      value: true,
      reason: 'TensorRT quantizes weights itself, from floats behind Q and DQ',
      fits: isPairs,
    },
  },
  nnapi: {
    format: { value: 'qdq', reason: 'what an accelerator does not take falls back to float operators' },
    operators: { value: 'integer', reason: 'NNAPI has 8-bit forms of these' },
    shareScales: { value: 'always', reason: 'NNAPI wants one scale on both sides of a pooling' },
    activationType: { value: 'uint8', reason: 'TENSOR_QUANT8_ASYMM is uint8' },
    activationSymmetric: { value: false, reason: 'TENSOR_QUANT8_ASYMM has zero points' },
    weightType: {
      value: 'uint8',
      reason: 'every version of Android takes TENSOR_QUANT8_ASYMM for weights',
      fits: hasUnsignedActivations,
    },
    weightSymmetric: {
      value: false,
      reason: 'TENSOR_QUANT8_ASYMM has zero points, and so all codes are used',
      fits: ({ weightType, perChannel, activationType }) =>
        (weightType === undefined ? activationType !== 'int8' : weightType === 'uint8') && perChannel !== true,
    },
    perChannel: { value: false, reason: 'TENSOR_QUANT8_ASYMM has one scale' },
    reduceRange: { value: false, reason: 'accelerators sum in int32 and do not saturate' },
    nnapiSigmoid: {
      value: true,
      reason: 'NNAPI fixes the scale of LOGISTIC at 1/256',
      fits: ({ activationType }) => activationType === undefined || activationType === 'uint8',
    },
  },
  qnn: {
    format: { value: 'qdq', reason: 'QNN reads Q/DQ pairs only' },
    operators: { value: 'all', reason: 'accelerators have no float forms: all nodes have pairs around them' },
    activationType: { value: 'uint8', reason: QNN_TYPES },
    weightType: { value: 'uint8', reason: QNN_TYPES, fits: ({ activationType }) => activationType !== 'int8' },
    perChannel: { value: false, reason: 'QNN has scales per channel for convolutions only' },
    reduceRange: { value: false, reason: 'accelerators sum in int32 and do not saturate' },
    minRealRange: { value: 1e-4, reason: 'QNN refuses scales that are next to nothing' },
  },
};

const DYNAMIC_BYTES = 'activations are uint8 in this mode, and int8 weights are fastest beside them';

const DYNAMIC: Readonly<Record<CpuTargetName, Preset>> = {
  vnni: {
    perChannel: CPU.perChannel,
    weightType: { value: 'int8', reason: DYNAMIC_BYTES },
    reduceRange: STATIC.vnni.reduceRange,
  },
  avx2: {
    perChannel: CPU.perChannel,
    weightType: { value: 'uint8', reason: UNSIGNED },
    reduceRange: STATIC.avx2.reduceRange,
  },
  arm: {
    perChannel: CPU.perChannel,
    weightType: { value: 'int8', reason: DYNAMIC_BYTES },
    reduceRange: STATIC.arm.reduceRange,
  },
  generic: {
    perChannel: CPU.perChannel,
    weightType: { value: 'int8', reason: DYNAMIC_BYTES },
    reduceRange: STATIC.generic.reduceRange,
  },
};

type Targeted = StaticQuantizeOptions | DynamicQuantizeOptions;

/** What the target says about options that the user has not given. @throws ERR_Q8_INVALID_ARGUMENT for unknown targets. */
function chosenFor(options: Targeted): [name: keyof Settable, choice: Choice<SettingReport['value']>][] {
  if (options.target === undefined) return [];
  const target = choice<Targeted, TargetName>(options, 'target', TARGETS, undefined);
  const preset = options.mode === 'static' ? STATIC[target] : DYNAMIC[target as CpuTargetName];
  if (!preset) {
    throw expected('"vnni", "avx2", "arm" or "generic"', 'the option target in mode "dynamic"', target, {
      hint: 'accelerators want scales that are known before a run: use mode "static".',
    });
  }
  const given = options as RepresentationOptions;
  return Object.entries(preset).flatMap(([key, said]) => {
    const name = key as keyof Settable;
    if (given[name] !== undefined) return [];
    const choices: readonly Choice<SettingReport['value']>[] = [said].flat();
    const fitting = choices.find(({ fits }) => fits?.(given) ?? true);
    return fitting ? [[name, fitting]] : [];
  });
}

/** The options with those that the target adds. @throws ERR_Q8_INVALID_ARGUMENT for unknown targets. */
export function withTarget<O extends Targeted>(options: O): O {
  return { ...options, ...Object.fromEntries(chosenFor(options).map(([name, { value }]) => [name, value])) };
}

/** Why the defaults are what they are. */
const DEFAULT_REASONS: Readonly<Record<keyof Settable, string>> = {
  format: 'integer operators run as they stand in every runtime',
  operators: 'on CPUs, codes around float operators only cost accuracy',
  shareScales: 'one scale where it costs no accuracy',
  activationType: 'ranges after Relu have no sign',
  weightType: 'weights lie around 0, and int8 needs no zero point for them',
  activationSymmetric: 'zero points let lopsided ranges use all codes',
  restrictZeroPoints: 'CPUs take any zero point',
  perChannel: 'channels differ in their ranges; on CPUs a scale for each costs no time',
  channelAxis: 'the axis of the output channels',
  blockSize: 'one scale per channel or tensor',
  weightSymmetric: 'the middle of the type needs no correction of sums',
  reduceRange: 'all codes are used; q8 is exact with them on every CPU',
  minRealRange: 'ranges as they are',
  quantizeBias: 'int32 biases are added to sums as they are',
  guardBias: 'a bias that does not fit int32 would be cut',
  constantWeightsOnly: 'products of two activations are fast on codes too',
  floatOutputsOf: 'none asked for',
  nnapiSigmoid: '1/255 uses all codes of [0, 1]',
  pairPerConsumer: 'one pair for all readers is less work',
  weightPairs: 'codes take a quarter of the space',
  pairDomain: 'the standard operators are known everywhere',
};

/**
 * Every option of representation that has a value, who chose it, and why.
 * @param given by the user.
 * @param resolved the same with target and defaults.
 */
export function listSettings(given: Targeted, resolved: Settable): SettingReport[] {
  const fromTarget = new Map(chosenFor(given));
  const settings: SettingReport[] = given.target
    ? [{ name: 'target', value: given.target, from: 'user', reason: GIVEN }]
    : [];
  for (const [key, reason] of Object.entries(DEFAULT_REASONS)) {
    const name = key as keyof Settable;
    const value = resolved[name];
    if (value === undefined) continue;
    const said = fromTarget.get(name);
    if (said) settings.push({ name, value, from: 'target', reason: said.reason });
    else if ((given as Settable)[name] !== undefined) settings.push({ name, value, from: 'user', reason: GIVEN });
    else settings.push({ name, value, from: 'default', reason });
  }
  return settings;
}

const GIVEN = 'given';
