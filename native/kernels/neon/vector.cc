// SPDX-License-Identifier: MIT
/// Vector operators for NEON. Float GEMM tile 6x16: 24 accumulators + 4 of B + 1 of A = 29 of 32.
#include <arm_neon.h>

#include <cstddef>

namespace q8 {
namespace {

struct F32Lanes {
  using V = float32x4_t;
  static constexpr size_t kWidth = 4;
  static constexpr size_t kRows = 6;
  static constexpr size_t kPanels = 1;
  static V load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, V v) { vst1q_f32(p, v); }
  static V broadcast(float v) { return vdupq_n_f32(v); }
  static V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  static V add(V a, V b) { return vaddq_f32(a, b); }
  static V clamp(V v, V lo, V hi) {
    const V raised = vbslq_f32(vcltq_f32(v, lo), lo, v);
    return vbslq_f32(vcgtq_f32(raised, hi), hi, raised);
  }
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::neon {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::neon
