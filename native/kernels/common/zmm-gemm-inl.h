// SPDX-License-Identifier: MIT
/// GEMM on zmm: the tiles, their epilogue and the peak loop of every room with thirty-two registers
/// of sixteen int32 lanes. Included once by kernels/<isa>/gemm.cc after Q8_TARGET and, in the
/// room's namespace, what the multiply-add is:
///
///   struct Dot {
///     using Element = ...;             // of A: uint8_t, read in place, or int16_t, packed
///     static constexpr size_t kKr;     // products that a multiply-add sums in a lane
///     static constexpr size_t kChains; // independent accumulators that hide its latency
///     static __m512i load_b(const int8_t* p);  // a row of packed B: 16 columns x kKr
///     static __m512i multiply_add(__m512i acc, __m512i a, __m512i b);
///   };
///
/// Tiles trade rows for panels so that about 28 of 32 zmm accumulate: 14x32 reads 16 operands per
/// 28 products, 8x48 and 6x64 serve short M, and few rows take eight panels. With less than kChains
/// accumulators K is walked in several phases, each with accumulators of its own.
/// Registers of 14x32: 28 accumulators + 2 B + 1 A, and one is left for a product.
#include <immintrin.h>

#include "kernels/common/a-words-inl.h"
#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kKr = Dot::kKr;
constexpr size_t kMaxRows = 14;
/// Bytes of A need no packing; then k may end inside a step, where packed A has zeros.
constexpr bool kReadsInPlace = sizeof(Dot::Element) == 1;

/// Panels of the tile with this many rows.
constexpr size_t panels_for(size_t rows) {
  if (rows <= 2) return 8;
  if (rows <= 6) return 4;
  if (rows <= 9) return 3;
  return 2;
}

/// K phases that bring the number of independent accumulators to about kChains.
constexpr size_t phases_for(size_t rows, size_t panels) {
  size_t phases = 1;
  while (phases < 4 && 2 * phases * rows * panels <= Dot::kChains) phases *= 2;
  return phases;
}

inline __m512i load_words(const void* p) { return _mm512_loadu_si512(p); }

/// The finished int32 of 16 columns. `column` is the panel's first column inside the tile.
Q8_ALWAYS_INLINE __m512i add_bias(const Epilogue& e, __m512i acc, size_t row, size_t column) {
  if (e.b_zero_point != nullptr) {
    const __m512i sum = _mm512_set1_epi32(e.row_sum[row]);
    acc = _mm512_sub_epi32(acc, _mm512_mullo_epi32(sum, load_words(e.b_zero_point + column)));
  }
  return _mm512_add_epi32(acc, load_words(e.bias + column));
}

/// The epilogue of one panel of the tile, in registers; columns outside `mask` are left alone in
/// memory. One branch on the kind for all rows.
template <size_t kRows, typename Accumulators>
Q8_ALWAYS_INLINE void store_panel(const Epilogue& e, const Accumulators& acc_of, size_t column,
                                  __mmask16 mask, void* c, size_t ldc) {
  if (e.kind == OutKind::kS32) {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      int32_t* out = static_cast<int32_t*>(c) + r * ldc + column;
      _mm512_mask_storeu_epi32(out, mask, add_bias(e, acc_of(r), r, column));
    });
    return;
  }
  const __m512 scale = _mm512_loadu_ps(e.scale + column);
  if (e.kind == OutKind::kF32) {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(add_bias(e, acc_of(r), r, column)), scale);
      if (e.float_bias != nullptr) y = _mm512_add_ps(y, _mm512_loadu_ps(e.float_bias + column));
      _mm512_mask_storeu_ps(static_cast<float*>(c) + r * ldc + column, mask, y);
    });
    return;
  }
  const __m512 lower = _mm512_set1_ps(e.lo);
  const __m512 upper = _mm512_set1_ps(e.hi);
  const __m512i zero_point = _mm512_set1_epi32(e.zero_point);
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(add_bias(e, acc_of(r), r, column)), scale);
    y = _mm512_min_ps(_mm512_max_ps(y, lower), upper);
    // The clamp has put the code into its type's range, so that plain truncation serves u8 and s8.
    const __m128i codes = _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(y), zero_point));
    _mm_mask_storeu_epi8(static_cast<uint8_t*>(c) + r * ldc + column, mask, codes);
  });
}

/// One step of kKr: kRows broadcasts, kPanels rows of B, their products.
template <size_t kRows, size_t kPanels, typename Accumulators, typename LoadA>
Q8_ALWAYS_INLINE void multiply_step(Accumulators& acc, const int8_t* const (&b)[kPanels],
                                    size_t b_offset, const LoadA& load_a) {
  __m512i b_row[kPanels];
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    b_row[p] = Dot::load_b(b[p] + b_offset);
#if defined(__GNUC__) && defined(__AVX512F__)
    // Hides where the value came from: GCC 12 would load it again for every row of A.
    __asm__("" : "+v"(b_row[p]));
#endif
  });
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    const __m512i a_word = _mm512_set1_epi32(load_a(r));
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      acc[r][p] = Dot::multiply_add(acc[r][p], a_word, b_row[p]);
    });
  });
}

/// kRows x (16 * kPanels) outputs over all of K.
template <size_t kRows, size_t kPanels>
void multiply(size_t cols, size_t k, const Dot::Element* a, size_t lda, const int8_t* b,
              size_t panel_stride, const Epilogue& epilogue, size_t column, void* c, size_t ldc) {
  constexpr size_t kPhases = phases_for(kRows, kPanels);
  constexpr size_t kGroups = (kRows + 2) / 3;
  __m512i acc[kPhases][kRows][kPanels];
  unroll<0, kPhases>([&](auto s) Q8_INLINE_LAMBDA {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { acc[s][r][p] = _mm512_setzero_si512(); });
    });
  });
  const int8_t* panel[kPanels];
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { panel[p] = b + p * panel_stride; });
  // Rows of A are addressed in threes, as base + {0, 1, 2} * lda: 14 row pointers do not fit the
  // general registers.
  const Dot::Element* group[kGroups];
  unroll<0, kGroups>([&](auto g) Q8_INLINE_LAMBDA { group[g] = a + 3 * g * lda; });
  const auto row = [&](auto r) Q8_INLINE_LAMBDA { return group[r / 3] + r % 3 * lda; };

  const size_t full = (kReadsInPlace ? k : k + kKr - 1) / kKr * kKr;
  size_t i = 0;
  for (; i + kPhases * kKr <= full; i += kPhases * kKr) {
    unroll<0, kPhases>([&](auto s) Q8_INLINE_LAMBDA {
      const size_t at = i + s * kKr;
      multiply_step<kRows, kPanels>(acc[s], panel, at * kPanelWidth, [&](auto r) Q8_INLINE_LAMBDA {
        return load_word(row(r) + at);
      });
    });
  }
  if constexpr (kPhases > 1) {
    for (; i < full; i += kKr) {
      multiply_step<kRows, kPanels>(acc[0], panel, i * kPanelWidth,
                                    [&](auto r) Q8_INLINE_LAMBDA { return load_word(row(r) + i); });
    }
  }
  if constexpr (kReadsInPlace) {
    if (full != k) {
      multiply_step<kRows, kPanels>(acc[0], panel, full * kPanelWidth,
                                    [&](auto r) Q8_INLINE_LAMBDA { return load_tail(row(r), k); });
    }
  }
  unroll<1, kPhases>([&](auto s) Q8_INLINE_LAMBDA {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        acc[0][r][p] = _mm512_add_epi32(acc[0][r][p], acc[s][r][p]);
      });
    });
  });

  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    const size_t left = cols - p * kPanelWidth;
    const __mmask16 mask = left < kPanelWidth ? static_cast<__mmask16>((1u << left) - 1)
                                              : static_cast<__mmask16>(0xffff);
    store_panel<kRows>(
        epilogue, [&](auto r) Q8_INLINE_LAMBDA { return acc[0][r][p]; }, column + p * kPanelWidth,
        mask, c, ldc);
  });
}

/// Exactly kRows rows: as many panels at a time as are left, in a descending choice of widths.
template <size_t kRows, size_t kPanels = panels_for(kRows)>
void gemm_rows(size_t cols, size_t k, const Dot::Element* a, size_t lda, const int8_t* b,
               size_t panel_stride, const Epilogue& epilogue, size_t column, void* c, size_t ldc) {
  while (cols > (kPanels - 1) * kPanelWidth) {
    const size_t width = cols < kPanels * kPanelWidth ? cols : kPanels * kPanelWidth;
    multiply<kRows, kPanels>(width, k, a, lda, b, panel_stride, epilogue, column, c, ldc);
    cols -= width;
    column += width;
    b += kPanels * panel_stride;
    if (cols == 0) return;
  }
  if constexpr (kPanels > 1) {
    gemm_rows<kRows, kPanels / 2>(cols, k, a, lda, b, panel_stride, epilogue, column, c, ldc);
  }
}

using GemmRowsFn = void (*)(size_t, size_t, const Dot::Element*, size_t, const int8_t*, size_t,
                            const Epilogue&, size_t, void*, size_t);
constexpr GemmRowsFn kGemmRows[kMaxRows] = {
    gemm_rows<1>,  gemm_rows<2>,  gemm_rows<3>,  gemm_rows<4>,  gemm_rows<5>,
    gemm_rows<6>,  gemm_rows<7>,  gemm_rows<8>,  gemm_rows<9>,  gemm_rows<10>,
    gemm_rows<11>, gemm_rows<12>, gemm_rows<13>, gemm_rows<14>,
};

/// GemmTile::run of every tile: the instance for exactly `rows`, so that a short strip wastes
/// nothing.
void gemm(size_t rows, size_t cols, size_t k, const void* a, size_t lda, const int8_t* b,
          size_t panel_stride, const Epilogue& epilogue, void* c, size_t ldc) {
  kGemmRows[rows - 1](cols, k, static_cast<const Dot::Element*>(a), lda / sizeof(Dot::Element), b,
                      panel_stride, epilogue, 0, c, ldc);
}

constexpr GemmTile kTiles[] = {
    {"14x32", 14, 32, gemm}, {"13x32", 13, 32, gemm}, {"12x32", 12, 32, gemm},
    {"11x32", 11, 32, gemm}, {"10x32", 10, 32, gemm}, {"9x48", 9, 48, gemm},
    {"8x48", 8, 48, gemm},   {"7x48", 7, 48, gemm},   {"6x64", 6, 64, gemm},
    {"5x64", 5, 64, gemm},   {"4x64", 4, 64, gemm},   {"3x64", 3, 64, gemm},
    {"2x128", 2, 128, gemm}, {"1x128", 1, 128, gemm},
};

/// The products of a 12x32 step, without the loads.
size_t peak_loop(size_t iterations) {
  constexpr size_t kAccumulators = 24;
  __m512i acc[kAccumulators];
  unroll<0, kAccumulators>([&](auto j) Q8_INLINE_LAMBDA { acc[j] = _mm512_setzero_si512(); });
  const __m512i a = _mm512_set1_epi32(0x04030201);
  const __m512i b = _mm512_set1_epi32(0x01020304);
  for (size_t i = 0; i < iterations; ++i) {
    unroll<0, kAccumulators>([&](auto j)
                                 Q8_INLINE_LAMBDA { acc[j] = Dot::multiply_add(acc[j], a, b); });
  }
  unroll<1, kAccumulators>([&](auto j)
                               Q8_INLINE_LAMBDA { acc[0] = _mm512_add_epi32(acc[0], acc[j]); });
  [[maybe_unused]] static volatile int32_t sink;
  sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(acc[0]));
  return kAccumulators * kPanelWidth * kKr;
}

constexpr GemmKernels kGemmKernels = {
    /*kr=*/Dot::kKr,
    /*a_element_bytes=*/sizeof(Dot::Element),
    /*a_in_place=*/kReadsInPlace,
    /*a_signed=*/false,
    pack_a<Dot::Element, Dot::kKr>,
    pack_b_panel<Dot::kKr>,
    kTiles,
    sizeof(kTiles) / sizeof(kTiles[0]),
    peak_loop,
};

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
