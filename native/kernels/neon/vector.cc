// SPDX-License-Identifier: MIT
/// Vector operators for NEON. Float GEMM tile 6x16: 24 accumulators + 4 of B + 1 of A = 29 of 32.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

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
  static V div(V a, V b) { return vdivq_f32(a, b); }
  static V clamp(V v, V lo, V hi) {
    const V raised = vbslq_f32(vcltq_f32(v, lo), lo, v);
    return vbslq_f32(vcgtq_f32(raised, hi), hi, raised);
  }
};

/// Sixteen bytes, for transposing.
struct ByteLanes {
  static constexpr size_t kWidth = 16;
  using V = uint8x16_t;
  static V load(const uint8_t* p) { return vld1q_u8(p); }
  static void store(uint8_t* p, V v) { vst1q_u8(p, v); }
  static V zip_low(V a, V b) { return vzip1q_u8(a, b); }
  static V zip_high(V a, V b) { return vzip2q_u8(a, b); }
};

/// TBL of 64 codes at a time; TBX leaves alone what lies outside of its rows.
struct CodeLanes {
  static constexpr size_t kWidth = 16;

  class Table {
   public:
    explicit Table(const uint8_t* codes) {
      for (size_t k = 0; k < 4; ++k) {
        for (size_t i = 0; i < 4; ++i) rows_[k].val[i] = vld1q_u8(codes + 64 * k + 16 * i);
      }
    }

    void map(const uint8_t* x, uint8_t* y) const {
      const uint8x16_t step = vdupq_n_u8(64);
      uint8x16_t at = vld1q_u8(x);
      uint8x16_t result = vqtbl4q_u8(rows_[0], at);
      for (size_t k = 1; k < 4; ++k) {
        at = vsubq_u8(at, step);
        result = vqtbx4q_u8(result, rows_[k], at);
      }
      vst1q_u8(y, result);
    }

   private:
    uint8x16x4_t rows_[4];
  };
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

namespace q8::neon {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::neon
