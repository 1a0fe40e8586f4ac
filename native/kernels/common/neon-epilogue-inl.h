// SPDX-License-Identifier: MIT
/// The output stage of the ARM64 rooms: 16 int32 accumulators of consecutive columns, in four
/// vectors, become finished values in memory. Base ARMv8.0 instructions only. Included after
/// Q8_TARGET is defined as the room's namespace.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/common/unroll-inl.h"
#include "kernels/gemm_kernels.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kQuads = kPanelWidth / 4;

inline void store_quad(int32_t* out, int32x4_t words) { vst1q_s32(out, words); }
inline void store_quad(float* out, float32x4_t words) { vst1q_f32(out, words); }

/// Columns cols..15 are left alone in memory.
template <typename Word, typename Vector>
Q8_ALWAYS_INLINE void store_words(const Vector (&words)[kQuads], size_t cols, Word* out) {
  if (cols == kPanelWidth) {
    unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA { store_quad(out + 4 * q, words[q]); });
    return;
  }
  Word staged[kPanelWidth];
  unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA { store_quad(staged + 4 * q, words[q]); });
  memcpy(out, staged, cols * sizeof(Word));
}

/// Finishes `cols` (1..16) columns of one row and stores them at `out`. The zero points of B are
/// already taken off `acc`. `column`: index of the first of them in the epilogue's arrays.
Q8_ALWAYS_INLINE void store_row(const Epilogue& e, const int32x4_t (&acc)[kQuads], size_t column,
                                size_t cols, void* out) {
  int32x4_t sum[kQuads];
  unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
    sum[q] = vaddq_s32(acc[q], vld1q_s32(e.bias + column + 4 * q));
  });
  if (e.kind == OutKind::kS32) {
    store_words(sum, cols, static_cast<int32_t*>(out));
    return;
  }
  float32x4_t y[kQuads];
  unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
    y[q] = vmulq_f32(vcvtq_f32_s32(sum[q]), vld1q_f32(e.scale + column + 4 * q));
  });
  if (e.kind == OutKind::kF32) {
    if (e.float_bias != nullptr) {
      unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
        y[q] = vaddq_f32(y[q], vld1q_f32(e.float_bias + column + 4 * q));
      });
    }
    store_words(y, cols, static_cast<float*>(out));
    return;
  }
  const float32x4_t lo = vdupq_n_f32(e.lo);
  const float32x4_t hi = vdupq_n_f32(e.hi);
  const int32x4_t zero_point = vdupq_n_s32(e.zero_point);
  unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
    sum[q] = vaddq_s32(vcvtnq_s32_f32(vminq_f32(vmaxq_f32(y[q], lo), hi)), zero_point);
  });
  // The clamp has put the code into its type's range, so that plain truncation serves u8 and s8.
  const int16x8_t low = vuzp1q_s16(vreinterpretq_s16_s32(sum[0]), vreinterpretq_s16_s32(sum[1]));
  const int16x8_t high = vuzp1q_s16(vreinterpretq_s16_s32(sum[2]), vreinterpretq_s16_s32(sum[3]));
  const uint8x16_t codes = vuzp1q_u8(vreinterpretq_u8_s16(low), vreinterpretq_u8_s16(high));
  uint8_t* const bytes = static_cast<uint8_t*>(out);
  if (cols == kPanelWidth) {
    vst1q_u8(bytes, codes);
    return;
  }
  uint8_t staged[kPanelWidth];
  vst1q_u8(staged, codes);
  memcpy(bytes, staged, cols);
}

inline size_t element_bytes(OutKind kind) {
  return kind == OutKind::kU8 || kind == OutKind::kS8 ? 1 : 4;
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
