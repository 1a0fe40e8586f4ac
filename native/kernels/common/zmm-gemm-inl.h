// SPDX-License-Identifier: MIT
/// GEMM on zmm: the tiles, their epilogue and the peak loop of every room with thirty-two registers
/// of sixteen int32 lanes. Included once by kernels/<isa>/gemm.cc after Q8_TARGET and, in the
/// room's namespace, what the multiply-add is:
///
///   struct Dot {
///     static constexpr const char* kInstruction;
///     using Element = ...;             // of A: uint8_t, read in place, or int16_t, packed
///     static constexpr size_t kKr;     // products that a multiply-add sums in a lane
///     static constexpr size_t kChains; // independent accumulators that hide its latency
///     static constexpr size_t kScratch; // registers beside accumulators and B: A, products,
///     constants static constexpr bool kBounded;  // exact only for bounded weights static __m512i
///     load_b(const int8_t* p);  // a row of packed B: 16 columns x kKr static __m512i
///     multiply_add(__m512i acc, __m512i a, __m512i b);
///   };
///
/// Tiles trade rows for panels so that about 28 of 32 zmm accumulate: 14x32 reads 16 operands per
/// 28 products, 8x48 and 6x64 serve short M, and few rows take eight panels. With less than kChains
/// accumulators K is walked in several phases, each with accumulators of its own.
/// Registers of 14x32: 28 accumulators + 2 B + 1 A, and one is left for a product. What needs one
/// more stops at 13 rows. Rows given as segments have a pointer each, which nine rows still leave
/// room for.
#include <immintrin.h>

#include "kernels/common/a-words-inl.h"
#include "kernels/common/bounded-inl.h"
#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kKr = Dot::kKr;
constexpr bool kIsTight = Dot::kScratch > 2;
constexpr size_t kMaxRows = kIsTight ? 13 : 14;
constexpr size_t kMaxSegmentRows = 9;
/// Bytes of A need no packing; then k may end inside a step, where packed A has zeros.
constexpr bool kReadsInPlace = sizeof(Dot::Element) == 1;
/// Packed B may come with a PanelFix.
constexpr bool kIsBounded = Dot::kBounded;

/// Panels of the tile with this many rows.
constexpr size_t panels_for(size_t rows) {
  if (rows <= 2) return 8;
  if (rows <= 6) return 4;
  if (rows <= (kIsTight ? 8 : 9)) return 3;
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
Q8_ALWAYS_INLINE void multiply_step(Accumulators& acc, const int8_t* b, size_t panel_stride,
                                    const LoadA& load_a) {
  __m512i b_row[kPanels];
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    b_row[p] = Dot::load_b(b + p * panel_stride);
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
void multiply(size_t cols, size_t k, const TileA& a, const TileB& b, const Epilogue& epilogue,
              size_t column, void* c, size_t ldc) {
  using Element = Dot::Element;
  constexpr size_t kPhases = phases_for(kRows, kPanels);
  constexpr bool kTakesSegments = kRows <= kMaxSegmentRows;
  // Many rows of A are addressed in threes, as base + {0, 1, 2} * lda: 14 pointers do not fit the
  // general registers.
  constexpr size_t kBases = kTakesSegments ? kRows : (kRows + 2) / 3;
  __m512i acc[kPhases][kRows][kPanels];
  unroll<0, kPhases>([&](auto s) Q8_INLINE_LAMBDA {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { acc[s][r][p] = _mm512_setzero_si512(); });
    });
  });
  const size_t lda = a.lda / sizeof(Element);
  const bool has_segments = kTakesSegments && a.source != nullptr;
  const Element* base[kBases];
  const auto start_run = [&](size_t run) Q8_INLINE_LAMBDA {
    unroll<0, kBases>([&](auto g) Q8_INLINE_LAMBDA {
      base[g] = has_segments ? reinterpret_cast<const Element*>(a.source[g * a.segments + run])
                             : static_cast<const Element*>(a.data) +
                                   (kTakesSegments ? size_t{g} : 3 * size_t{g}) * lda;
    });
  };
  const auto row = [&](auto r) Q8_INLINE_LAMBDA {
    if constexpr (kTakesSegments) {
      return base[r];
    } else {
      return base[r / 3] + r % 3 * lda;
    }
  };
  const size_t runs = has_segments ? a.segments : 1;
  const size_t run_k = has_segments ? a.segment : k;
  // Only K as a whole may end inside a step.
  const size_t full = (kReadsInPlace ? run_k : run_k + kKr - 1) / kKr * kKr;
  const int8_t* b_row = b.data;
  size_t next_run = 0;
  do {
    start_run(next_run);
    size_t i = 0;
    for (; i + kPhases * kKr <= full; i += kPhases * kKr) {
      unroll<0, kPhases>([&](auto s) Q8_INLINE_LAMBDA {
        const size_t at = i + s * kKr;
        multiply_step<kRows, kPanels>(acc[s], b_row + s * kKr * kPanelWidth, b.panel_stride,
                                      [&](auto r)
                                          Q8_INLINE_LAMBDA { return load_word(row(r) + at); });
      });
      b_row += kPhases * kKr * kPanelWidth;
    }
    if constexpr (kPhases > 1) {
      for (; i < full; i += kKr) {
        multiply_step<kRows, kPanels>(acc[0], b_row, b.panel_stride, [&](auto r) Q8_INLINE_LAMBDA {
          return load_word(row(r) + i);
        });
        b_row += kKr * kPanelWidth;
      }
    }
  } while (++next_run < runs);
  if constexpr (kReadsInPlace) {
    if (full != run_k) {
      multiply_step<kRows, kPanels>(acc[0], b_row, b.panel_stride,
                                    [&](auto r) Q8_INLINE_LAMBDA { return load_tail(row(r), k); });
    }
  }
  if constexpr (kIsBounded) {
    if (b.fix != nullptr) {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        const PanelFix& fix = b.fix[p];
        size_t run = 0;
        size_t run_start = 0;
        if (runs > 1) start_run(0);
        for (size_t index = 0; index < fix.count; ++index) {
          const __m512i fix_row = Dot::load_b(fix.rows + index * kKr * kPanelWidth);
          const auto add_row = [&](const auto& load_a) Q8_INLINE_LAMBDA {
            unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
              acc[0][r][p] = Dot::multiply_add(acc[0][r][p], _mm512_set1_epi32(load_a(r)), fix_row);
            });
          };
          const size_t at = size_t{fix.step[index]} * kKr;
          if (at - run_start >= run_k) {
            do {
              ++run;
              run_start += run_k;
            } while (at - run_start >= run_k);
            start_run(run);
          }
          const size_t i = at - run_start;
          if (i == full) {
            add_row([&](auto r) Q8_INLINE_LAMBDA { return load_tail(row(r), k); });
          } else {
            add_row([&](auto r) Q8_INLINE_LAMBDA { return load_word(row(r) + i); });
          }
        }
      });
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
void gemm_rows(size_t cols, size_t k, const TileA& a, TileB b, const Epilogue& epilogue,
               size_t column, void* c, size_t ldc) {
  while (cols > (kPanels - 1) * kPanelWidth) {
    const size_t width = cols < kPanels * kPanelWidth ? cols : kPanels * kPanelWidth;
    multiply<kRows, kPanels>(width, k, a, b, epilogue, column, c, ldc);
    cols -= width;
    column += width;
    b.data += kPanels * b.panel_stride;
    if (b.fix != nullptr) b.fix += kPanels;
    if (cols == 0) return;
  }
  if constexpr (kPanels > 1) {
    gemm_rows<kRows, kPanels / 2>(cols, k, a, b, epilogue, column, c, ldc);
  }
}

using GemmRowsFn = void (*)(size_t, size_t, const TileA&, TileB, const Epilogue&, size_t, void*,
                            size_t);

/// gemm_rows<1> to gemm_rows<kMaxRows>.
struct RowTable {
  GemmRowsFn run[kMaxRows] = {};
  constexpr RowTable() { fill<kMaxRows>(); }

 private:
  template <size_t kRows>
  constexpr void fill() {
    run[kRows - 1] = gemm_rows<kRows>;
    if constexpr (kRows > 1) fill<kRows - 1>();
  }
};
constexpr RowTable kByRows;

/// GemmTile::run of every tile: the instance for exactly `rows`, so that a short strip wastes
/// nothing.
void gemm(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
          const Epilogue& epilogue, void* c, size_t ldc) {
  kByRows.run[rows - 1](cols, k, a, b, epilogue, 0, c, ldc);
}

constexpr GemmTile tile(const char* name, uint16_t rows) {
  return {name, rows, static_cast<uint16_t>(panels_for(rows) * kPanelWidth), gemm,
          rows <= kMaxSegmentRows};
}

constexpr GemmTile kTiles[] = {
    tile("14x32", 14), tile("13x32", 13), tile("12x32", 12),
    tile("11x32", 11), tile("10x32", 10), tile(kIsTight ? "9x32" : "9x48", 9),
    tile("8x48", 8),   tile("7x48", 7),   tile("6x64", 6),
    tile("5x64", 5),   tile("4x64", 4),   tile("3x64", 3),
    tile("2x128", 2),  tile("1x128", 1),
};
/// The tiles of 14 and more rows that some rooms leave out.
constexpr size_t kSkippedTiles = 14 - kMaxRows;

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
    Dot::kInstruction,
    /*kr=*/Dot::kKr,
    /*a_element_bytes=*/sizeof(Dot::Element),
    /*a_in_place=*/kReadsInPlace,
    /*a_signed=*/false,
    pack_a<Dot::Element, Dot::kKr>,
    pack_b_panel<Dot::kKr>,
    kTiles + kSkippedTiles,
    sizeof(kTiles) / sizeof(kTiles[0]) - kSkippedTiles,
    peak_loop,
    Dot::kBounded ? find_unbounded : nullptr,
};

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
