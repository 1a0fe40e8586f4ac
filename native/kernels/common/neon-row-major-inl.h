// SPDX-License-Identifier: MIT
/// The K loop of the ARM64 rooms that read A in place, 16 k of a row at a time, of which each step
/// multiplies kKr. Included by kernels/<isa>/gemm.cc after
///   Q8_TARGET, kKr
///   multiply_step<kStep>(acc, a, panel, b_offset)  the products of k = kStep * kKr ... of a block
/// are defined. Defines accumulate(), which neon-gemm-inl.h asks for.
#pragma once

#include "kernels/common/neon-epilogue-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// k per load of A.
constexpr size_t kBlock = 16;

/// The last k % 16 bytes of a row of k bytes, then zeros; nothing outside of the row is read.
inline int8x16_t load_tail(const int8_t* row, size_t k) {
  const size_t tail = k % kBlock;
  if (k < kBlock) {
    int8_t staged[kBlock] = {};
    memcpy(staged, row, tail);
    return vld1q_s8(staged);
  }
  static const uint8_t kIota[kBlock] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // Indices of 16 and more give 0.
  const uint8x16_t index =
      vaddq_u8(vld1q_u8(kIota), vdupq_n_u8(static_cast<uint8_t>(kBlock - tail)));
  return vqtbl1q_s8(vld1q_s8(row + k - kBlock), index);
}

template <size_t kRows, size_t kPanels>
Q8_ALWAYS_INLINE void accumulate(size_t k, const TileA& a, const TileB& b,
                                 int32x4_t (&acc)[kRows][kPanels][kQuads]) {
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA { acc[r][p][q] = vdupq_n_s32(0); });
    });
  });
  const int8_t* row[kRows];
  const int8_t* panel[kPanels];
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { panel[p] = b.data + p * b.panel_stride; });
  const size_t runs = a.segments;
  const size_t run_k = runs > 1 ? a.segment : k;
  size_t run = 0;
  do {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      row[r] = a.source != nullptr
                   ? reinterpret_cast<const int8_t*>(a.source[r * a.segments + run])
                   : static_cast<const int8_t*>(a.data) + r * a.lda + run * a.run_stride;
    });
    int8x16_t a_block[kRows];
    size_t i = 0;
    for (; i + kBlock <= run_k; i += kBlock) {
      unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA { a_block[r] = vld1q_s8(row[r] + i); });
      unroll<0, kBlock / kKr>([&](auto step) Q8_INLINE_LAMBDA {
        multiply_step<decltype(step)::kIndex>(acc, a_block, panel, (i + step * kKr) * kPanelWidth);
      });
    }
    if (i != run_k) {
      unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA { a_block[r] = load_tail(row[r], run_k); });
      unroll<0, kBlock / kKr>([&](auto step) Q8_INLINE_LAMBDA {
        const size_t at = i + step * kKr;
        if (at < run_k) {
          multiply_step<decltype(step)::kIndex>(acc, a_block, panel, at * kPanelWidth);
        }
      });
    }
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { panel[p] += run_k * kPanelWidth; });
  } while (++run < runs);
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
