// SPDX-License-Identifier: MIT
/// Fused multiply-add of one float, the same bits with and without the instruction. Libraries
/// cannot be relied on: MinGW's fmaf rounds twice.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace q8 {
namespace {

/// a * b + c, rounded once. Where the CPU may lack the instruction: the product is exact in double,
/// the sum is rounded to odd there, and from 53 bits rounded to odd the step to 24 bits is right
/// (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
inline float fused_multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return fmaf(a, b, c);
#else
  const double product = static_cast<double>(a) * b;
  const double addend = c;
  double sum = product + addend;
  // What rounding the sum has lost, exactly; NaN when the sum is no finite number.
  const double part = sum - product;
  const double lost = (product - (sum - part)) + (addend - part);
  int64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  if ((lost > 0 || lost < 0) && (bits & 1) == 0) {
    bits += (lost > 0) == (sum > 0) ? 1 : -1;
    memcpy(&sum, &bits, sizeof bits);
  }
  return static_cast<float>(sum);
#endif
}

}  // namespace
}  // namespace q8
