// SPDX-License-Identifier: MIT
/// Add, Sub, Mul and Div of two 8-bit tensors as the steps use them. The definition dequantizes
/// both operands, computes, divides by the scale of the result and rounds; where a shorter
/// computation gives the same code for each of the 65536 pairs of codes, that is what runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/vector_kernels.h"

namespace q8 {

class CodeBinary {
 public:
  CodeBinary() = default;
  /// `elements`: of the whole tensor; short ones do not pay for the search.
  CodeBinary(const VectorKernels& kernels, BinaryKind kind, const CodeParams& a,
             const CodeParams& b, const QuantizeParams& y, size_t elements);

  /// As VectorKernels::qbinary.
  void run(size_t n, const uint8_t* a, ptrdiff_t a_step, const uint8_t* b, ptrdiff_t b_step,
           uint8_t* y) const;

  bool is_fused() const { return is_fused_; }

 private:
  bool find_fused();

  const VectorKernels* kernels_ = nullptr;
  BinaryKind kind_ = BinaryKind::kAdd;
  CodeParams a_ = {};
  CodeParams b_ = {};
  QuantizeParams y_ = {};
  bool is_fused_ = false;
  FusedParams fused_ = {};
};

}  // namespace q8
