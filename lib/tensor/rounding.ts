/** Rounding to integers as the vector units do it: to nearest, ties to even. */

/** Nearest integer, ties to even; NaN and infinities pass through. */
export function roundHalfEven(value: number): number {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}
