// SPDX-License-Identifier: MIT
/// Vector operators in portable C++: the reference that every other room must equal bit for bit.
#include <cstddef>

#include "kernels/common/fma-inl.h"

namespace q8 {
namespace {

struct F32Lanes {
  using V = float;
  static constexpr size_t kWidth = 1;
  static constexpr size_t kRows = 1;
  static V load(const float* p) { return *p; }
  static void store(float* p, V v) { *p = v; }
  static V broadcast(float v) { return v; }
  static V fma(V a, V b, V c) { return fused_multiply_add(a, b, c); }
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::scalar {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::scalar
