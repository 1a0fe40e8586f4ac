// SPDX-License-Identifier: MIT
/// The epilogue's definition, one output at a time, written without looking at any kernel.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/gemm_kernels.h"

namespace q8::test {

/// The four bytes (8-bit kinds: the low one) that the kernel must store for the raw accumulator
/// `acc`.
inline uint32_t reference_output(const Epilogue& e, uint32_t acc, size_t row, size_t column) {
  if (e.b_zero_point != nullptr)
    acc -= static_cast<uint32_t>(e.b_zero_point[column]) * static_cast<uint32_t>(e.row_sum[row]);
  acc += static_cast<uint32_t>(e.bias[column]);
  if (e.kind == OutKind::kS32) return acc;
  const volatile float product = static_cast<float>(static_cast<int32_t>(acc)) * e.scale[column];
  if (e.kind == OutKind::kF32) {
    const volatile float sum = e.float_bias != nullptr ? product + e.float_bias[column] : product;
    const float value = sum;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
  }
  const float clamped = std::fmin(std::fmax(product, e.lo), e.hi);
  return static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(clamped)) + e.zero_point);
}

inline size_t output_bytes(OutKind kind) {
  return kind == OutKind::kS32 || kind == OutKind::kF32 ? 4 : 1;
}

}  // namespace q8::test
