// SPDX-License-Identifier: MIT
/// What the GEMMs of the ARM64 rooms share around their inner loop: the instance for the rows at
/// hand, walking the panels of a tile, the output stage. Included once by kernels/<isa>/gemm.cc
/// after
///   Q8_TARGET             the room's namespace
///   kMaxRows, panels_for  rows of the largest tile, and panels of the tile with so many rows
/// are defined. The room also defines accumulate().
#pragma once

#include "kernels/common/neon-epilogue-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// The products over all of K. Defined by the room, or by neon-row-major-inl.h.
template <size_t kRows, size_t kPanels>
Q8_ALWAYS_INLINE void accumulate(size_t k, const TileA& a, const TileB& b,
                                 int32x4_t (&acc)[kRows][kPanels][kQuads]);

/// kRows x (16 * kPanels) outputs over all of K.
template <size_t kRows, size_t kPanels>
void multiply(size_t cols, size_t k, const TileA& a, const TileB& b, const Epilogue& e,
              size_t column, void* c, size_t ldc) {
  int32x4_t acc[kRows][kPanels][kQuads];
  accumulate<kRows, kPanels>(k, a, b, acc);

  const size_t bytes = element_bytes(e.kind);
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    const size_t at = column + p * kPanelWidth;
    const size_t left = cols - p * kPanelWidth;
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      if (e.b_zero_point != nullptr) {
        const int32x4_t row_sum = vdupq_n_s32(e.row_sum[r]);
        unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
          acc[r][p][q] = vmlsq_s32(acc[r][p][q], row_sum, vld1q_s32(e.b_zero_point + at + 4 * q));
        });
      }
      store_row(e, acc[r][p], at, left < kPanelWidth ? left : kPanelWidth,
                static_cast<uint8_t*>(c) + (r * ldc + at) * bytes);
    });
  });
}

/// Exactly kRows rows: as many panels at a time as are left, in a descending choice of widths.
template <size_t kRows, size_t kPanels = panels_for(kRows)>
void gemm_rows(size_t cols, size_t k, const TileA& a, TileB b, const Epilogue& epilogue,
               size_t column, void* c, size_t ldc) {
  while (cols > (kPanels - 1) * kPanelWidth) {
    const size_t width = cols < kPanels * kPanelWidth ? cols : kPanels * kPanelWidth;
    multiply<kRows, kPanels>(width, k, a, b, epilogue, column, c, ldc);
    cols -= width;
    if (cols == 0) return;
    column += width;
    b.data += kPanels * b.panel_stride;
  }
  if constexpr (kPanels > 1) {
    gemm_rows<kRows, kPanels / 2>(cols, k, a, b, epilogue, column, c, ldc);
  }
}

/// GemmTile::run of every tile: the instance for exactly `rows`, so that a short strip wastes
/// nothing.
template <size_t kRows = kMaxRows>
void gemm(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
          const Epilogue& epilogue, void* c, size_t ldc) {
  if (rows == kRows) {
    gemm_rows<kRows>(cols, k, a, b, epilogue, 0, c, ldc);
  } else if constexpr (kRows > 1) {
    gemm<kRows - 1>(rows, cols, k, a, b, epilogue, c, ldc);
  }
}

/// GemmKernels::peak_loop: `kAccumulators` products per round by `product`, which folds kMacs
/// multiply-adds into one accumulator.
template <size_t kAccumulators, size_t kMacs, typename Product>
Q8_ALWAYS_INLINE size_t run_peak_loop(size_t iterations, const Product& product) {
  int32x4_t acc[kAccumulators];
  unroll<0, kAccumulators>([&](auto j) Q8_INLINE_LAMBDA { acc[j] = vdupq_n_s32(0); });
  const int8x16_t a = vreinterpretq_s8_s32(vdupq_n_s32(0x04030201));
  const int8x16_t b = vreinterpretq_s8_s32(vdupq_n_s32(0x01020304));
  for (size_t i = 0; i < iterations; ++i) {
    unroll<0, kAccumulators>([&](auto j) Q8_INLINE_LAMBDA { acc[j] = product(acc[j], a, b); });
  }
  unroll<1, kAccumulators>([&](auto j) Q8_INLINE_LAMBDA { acc[0] = vaddq_s32(acc[0], acc[j]); });
  [[maybe_unused]] static volatile int32_t sink;
  sink = vgetq_lane_s32(acc[0], 0);
  return kAccumulators * kMacs;
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
