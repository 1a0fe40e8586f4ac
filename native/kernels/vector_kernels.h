// SPDX-License-Identifier: MIT
/// The executor's vector operators and float GEMM in the kernel table: one implementation in common/vector-inl.h, compiled
/// into each room with its flags. Written so that every ISA gives the same bits: fixed order of float operations, explicit
/// fused multiply-adds only in the float GEMM, own transcendental functions instead of libm.
#pragma once

#include <cstddef>
#include <cstdint>

namespace q8 {

struct VectorKernels {
  /// q[i] = round_half_even(clamp(x[i] / scale, lo, hi)) + zero_point; lo, hi relative to zero_point. NaN gives lo.
  void (*quantize_u8)(size_t n, const float* x, float scale, int32_t zero_point, float lo, float hi, uint8_t* y);
};

}  // namespace q8
