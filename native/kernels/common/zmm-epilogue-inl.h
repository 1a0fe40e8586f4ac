// SPDX-License-Identifier: MIT
/// What becomes of the accumulators of a tile, on zmm: zero points and bias, scaling,
/// requantization and the store. Included once by a room's GEMM after Q8_TARGET is defined.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/common/rounding-inl.h"
#include "kernels/common/unroll-inl.h"
#include "kernels/gemm_kernels.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

inline __m512i load_words(const void* p) { return _mm512_loadu_si512(p); }

/// What the accumulator of a row and 16 columns starts from: all that the epilogue adds to it.
/// `column` is the panel's first column inside the tile.
Q8_ALWAYS_INLINE __m512i start_value(const Epilogue& e, __m512i bias, size_t row, size_t column) {
  if (e.b_zero_point == nullptr) return bias;
  const __m512i sum = _mm512_set1_epi32(e.row_sum[row]);
  return _mm512_sub_epi32(bias, _mm512_mullo_epi32(sum, load_words(e.b_zero_point + column)));
}

/// Codes of four accumulators of the same 16 columns or, in pairs, of 32: round(acc * scale) + zero
/// point, clamped. Above, the clamp comes before the conversion: VCVTPS2DQ makes the least int32 of
/// what does not fit. Below, that is on the right side: saturating packs and a maximum finish it.
/// Where all products fit, a minimum of bytes is enough above.
template <Rounding kRounding>
struct Requantize {
  __m512 upper;
  __m512i zero_point;
  __m512i least;
  __m512i most;

  explicit Requantize(const Epilogue& e)
      : upper(_mm512_set1_ps(e.hi)),
        zero_point(_mm512_set1_epi16(static_cast<int16_t>(e.zero_point))),
        least(_mm512_set1_epi8(static_cast<int8_t>(static_cast<int32_t>(e.lo) + e.zero_point))),
        most(_mm512_set1_epi8(static_cast<int8_t>(static_cast<int32_t>(e.hi) + e.zero_point))) {}

  Q8_ALWAYS_INLINE __m512i round(__m512i acc, __m512 scale) const {
    const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
    return _mm512_cvtps_epi32(kRounding != Rounding::kGeneral ? product
                                                              : _mm512_min_ps(product, upper));
  }

  Q8_ALWAYS_INLINE __m512i shift(__m512i words) const {
    return kRounding == Rounding::kPlain ? words : _mm512_adds_epi16(words, zero_point);
  }

  /// 16 codes of each, in order.
  template <bool kSigned>
  Q8_ALWAYS_INLINE __m512i codes(__m512i a, __m512i b, __m512i c, __m512i d) const {
    const __m512i ab = shift(_mm512_packs_epi32(a, b));
    const __m512i cd = shift(_mm512_packs_epi32(c, d));
    __m512i bytes;
    if constexpr (kSigned) {
      bytes = _mm512_packs_epi16(ab, cd);
      if constexpr (kRounding != Rounding::kPlain) bytes = _mm512_max_epi8(bytes, least);
      if constexpr (kRounding == Rounding::kFits) bytes = _mm512_min_epi8(bytes, most);
    } else {
      bytes = _mm512_packus_epi16(ab, cd);
      if constexpr (kRounding != Rounding::kPlain) bytes = _mm512_max_epu8(bytes, least);
      if constexpr (kRounding == Rounding::kFits) bytes = _mm512_min_epu8(bytes, most);
    }
    // Packs work within 128 bits: a lane holds four codes of each operand.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, bytes);
  }
};

/// Stores codes of a tile, two panels at a time and the last of an odd number alone. Columns beyond
/// `cols` are left alone in memory.
template <bool kSigned, Rounding kRounding, size_t kRows, size_t kPanels, typename Accumulators>
Q8_ALWAYS_INLINE void store_codes(const Epilogue& e, const Accumulators& acc, size_t column,
                                  size_t cols, uint8_t* c, size_t ldc) {
  const Requantize<kRounding> requantize(e);
  unroll<0, kPanels / 2>([&](auto pair) Q8_INLINE_LAMBDA {
    constexpr size_t p = 2 * pair;
    const size_t at = column + p * kPanelWidth;
    const size_t left = cols - p * kPanelWidth;
    const __mmask32 mask = left < 32 ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
    const __m512 scale0 = _mm512_loadu_ps(e.scale + at);
    const __m512 scale1 = _mm512_loadu_ps(e.scale + at + kPanelWidth);
    unroll<0, (kRows + 1) / 2>([&](auto half) Q8_INLINE_LAMBDA {
      constexpr size_t r = 2 * half;
      const __m512i a = requantize.round(acc[r][p], scale0);
      const __m512i b = requantize.round(acc[r][p + 1], scale1);
      if constexpr (r + 1 < kRows) {
        const __m512i codes =
            requantize.template codes<kSigned>(a, b, requantize.round(acc[r + 1][p], scale0),
                                               requantize.round(acc[r + 1][p + 1], scale1));
        _mm256_mask_storeu_epi8(c + r * ldc + at, mask, _mm512_castsi512_si256(codes));
        _mm256_mask_storeu_epi8(c + (r + 1) * ldc + at, mask, _mm512_extracti64x4_epi64(codes, 1));
      } else {
        const __m512i codes = requantize.template codes<kSigned>(a, b, a, b);
        _mm256_mask_storeu_epi8(c + r * ldc + at, mask, _mm512_castsi512_si256(codes));
      }
    });
  });
  if constexpr (kPanels % 2 != 0) {
    constexpr size_t p = kPanels - 1;
    const size_t at = column + p * kPanelWidth;
    const size_t left = cols - p * kPanelWidth;
    const __mmask16 mask = static_cast<__mmask16>(left < kPanelWidth ? (1u << left) - 1 : 0xffffu);
    const __m512 scale = _mm512_loadu_ps(e.scale + at);
    unroll<0, (kRows + 3) / 4>([&](auto quarter) Q8_INLINE_LAMBDA {
      constexpr size_t r = 4 * quarter;
      const auto row = [&](auto i) Q8_INLINE_LAMBDA {
        return requantize.round(acc[r + i < kRows ? r + i : r][p], scale);
      };
      const __m512i codes = requantize.template codes<kSigned>(row(Index<0>{}), row(Index<1>{}),
                                                               row(Index<2>{}), row(Index<3>{}));
      unroll<0, (kRows - r < 4 ? kRows - r : 4)>([&](auto i) Q8_INLINE_LAMBDA {
        _mm_mask_storeu_epi8(c + (r + i) * ldc + at, mask, _mm512_extracti32x4_epi32(codes, i));
      });
    });
  }
}

/// The epilogue of the tile, in registers: what start_value() does not do. Columns beyond `cols`
/// are left alone in memory.
template <size_t kRows, size_t kPanels, Rounding kRounding = Rounding::kGeneral,
          typename Accumulators>
Q8_ALWAYS_INLINE void store_tile(const Epilogue& e, const Accumulators& acc, size_t column,
                                 size_t cols, void* c, size_t ldc) {
  if (e.kind == OutKind::kU8) {
    store_codes<false, kRounding, kRows, kPanels>(e, acc, column, cols, static_cast<uint8_t*>(c),
                                                  ldc);
    return;
  }
  if (e.kind == OutKind::kS8) {
    store_codes<true, kRounding, kRows, kPanels>(e, acc, column, cols, static_cast<uint8_t*>(c),
                                                 ldc);
    return;
  }
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    const size_t at = column + p * kPanelWidth;
    const size_t left = cols - p * kPanelWidth;
    const __mmask16 mask = static_cast<__mmask16>(left < kPanelWidth ? (1u << left) - 1 : 0xffffu);
    if (e.kind == OutKind::kS32) {
      int32_t* out = static_cast<int32_t*>(c) + at;
      unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
        _mm512_mask_storeu_epi32(out + r * ldc, mask, acc[r][p]);
      });
      return;
    }
    float* out = static_cast<float*>(c) + at;
    const __m512 scale = _mm512_loadu_ps(e.scale + at);
    const auto value = [&](auto r) Q8_INLINE_LAMBDA {
      return _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][p]), scale);
    };
    if (e.float_bias == nullptr) {
      unroll<0, kRows>(
          [&](auto r) Q8_INLINE_LAMBDA { _mm512_mask_storeu_ps(out + r * ldc, mask, value(r)); });
    } else {
      const __m512 bias = _mm512_loadu_ps(e.float_bias + at);
      unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
        _mm512_mask_storeu_ps(out + r * ldc, mask, _mm512_add_ps(value(r), bias));
      });
    }
  });
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
