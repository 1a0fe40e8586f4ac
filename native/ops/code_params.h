// SPDX-License-Identifier: MIT
/// Scales and zero points of 8-bit tensors in the form the vector kernels take.
#pragma once

#include "kernels/vector_kernels.h"
#include "program/step.h"

namespace q8 {

inline uint8_t flip_of(DType dtype) { return dtype == DType::kInt8 ? 0x80 : 0; }

/// Zero point of the codes after `flip_of`.
inline int32_t flipped_zero_point(DType dtype, int32_t zero_point) {
  return zero_point + (dtype == DType::kInt8 ? 128 : 0);
}

inline CodeParams code_params(DType dtype, float scale, int32_t zero_point) {
  return {scale, flipped_zero_point(dtype, zero_point), flip_of(dtype)};
}

inline int32_t code_min(DType dtype) { return dtype == DType::kInt8 ? -128 : 0; }
inline int32_t code_max(DType dtype) { return dtype == DType::kInt8 ? 127 : 255; }

inline QuantizeParams quantize_params(DType dtype, float scale, int32_t zero_point) {
  return {scale, static_cast<float>(code_min(dtype) - zero_point),
          static_cast<float>(code_max(dtype) - zero_point), zero_point};
}

}  // namespace q8
