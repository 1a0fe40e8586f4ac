// SPDX-License-Identifier: MIT
/// Vector operators in portable C++: the reference that every other room must equal bit for bit.
#include <cstddef>
#include <cstdint>

#include "kernels/common/fma-inl.h"

namespace q8 {
namespace {

struct F32Lanes {
  using V = float;
  static constexpr size_t kWidth = 1;
  static constexpr size_t kRows = 1;
  static constexpr size_t kPanels = 1;
  static V load(const float* p) { return *p; }
  static void store(float* p, V v) { *p = v; }
  static V broadcast(float v) { return v; }
  static V fma(V a, V b, V c) { return fused_multiply_add(a, b, c); }
  static V add(V a, V b) { return a + b; }
  static V div(V a, V b) { return a / b; }
  static V clamp(V v, V lo, V hi) {
    const V raised = v < lo ? lo : v;
    return raised > hi ? hi : raised;
  }
};

struct ByteLanes {
  static constexpr size_t kWidth = 1;
};

struct CodeLanes {
  static constexpr size_t kWidth = 1;
};

/// The compiler's code for qbinary serves.
struct QBinaryLanes {
  static constexpr size_t kWidth = 1;
};

struct FusedLanes {
  static constexpr size_t kWidth = 1;
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::scalar {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::scalar
