/** Mod (ai.onnx 10, 13): remainder; with the divisor's sign, or with the dividend's when fmod is 1. x mod 0 is 0 for integers. */
import type { OpDefinition } from './define-op';
import { type Arithmetic, combine, defineBinary } from './families/elementwise';

const FMOD: Arithmetic = {
  float: (a, b) => a % b,
  integer: (a, b) => (b === 0 ? 0 : a % b),
  big: (a, b) => (b === 0n ? 0n : a % b),
};

const FLOOR_MOD: Arithmetic = {
  float: (a, b) => a - b * Math.floor(a / b),
  integer: (a, b) => (b === 0 ? 0 : ((a % b) + b) % b),
  big: (a, b) => (b === 0n ? 0n : ((a % b) + b) % b),
};

export const Mod: OpDefinition = {
  ...defineBinary({ type: 'Mod', since: [10, 13], ...FLOOR_MOD }),
  run([a, b], { node }) {
    return [combine(a!, b!, node.attributes.int('fmod', 0) === 0 ? FLOOR_MOD : FMOD, node)];
  },
};
