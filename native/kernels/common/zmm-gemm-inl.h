// SPDX-License-Identifier: MIT
/// GEMM on zmm: the tiles and the peak loop of every room with thirty-two registers
/// of sixteen int32 lanes. Included once by kernels/<isa>/gemm.cc after Q8_TARGET and, in the
/// room's namespace, what the multiply-add is:
///
///   struct Dot {
///     static constexpr const char* kInstruction;
///     using Element = ...;             // of A: uint8_t, read in place, or int16_t, packed
///     static constexpr size_t kKr;     // products that a multiply-add sums in a lane
///     static constexpr size_t kChains; // independent accumulators that hide its latency
///     static constexpr size_t kScratch; // registers beside accumulators and B, such as for A
///     static constexpr size_t kMacsPerThread; // see GemmKernels
///     static constexpr bool kBounded;   // exact only for bounded weights
///     static __m512i load_b(const int8_t* p);  // a row of packed B: 16 columns x kKr
///     static __m512i multiply_add(__m512i acc, __m512i a, __m512i b);
///   };
///
/// Tiles trade rows for panels so that about 28 of 32 zmm accumulate: 14x32 reads 16 operands per
/// 28 products, 8x48 and 6x64 serve short M, and few rows take eight panels. With less than kChains
/// accumulators K is walked in several phases, each with accumulators of its own.
/// Registers of 14x32: 28 accumulators + 2 B + 1 A, and one is left for a product. What needs one
/// more stops at 13 rows. Rows given as segments have a pointer each, which eight rows still leave
/// room for.
#include <immintrin.h>

#include "kernels/common/a-words-inl.h"
#include "kernels/common/bounded-inl.h"
#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/unroll-inl.h"
#include "kernels/common/zmm-epilogue-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kKr = Dot::kKr;
constexpr bool kIsTight = Dot::kScratch > 2;
constexpr size_t kMaxRows = kIsTight ? 13 : 14;
constexpr size_t kMaxSegmentRows = 8;
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
void multiply(size_t cols, size_t k, const TileA& a, const int8_t* b, size_t panel_stride,
              const PanelFix* fixes, ptrdiff_t ahead, const Epilogue& epilogue, size_t column,
              void* c, size_t ldc) {
  using Element = Dot::Element;
  constexpr size_t kPhases = phases_for(kRows, kPanels);
  constexpr bool kTakesSegments = kRows <= kMaxSegmentRows;
  // Many rows of A are addressed in threes, as base + {0, 1, 2} * lda: 14 pointers do not fit the
  // general registers.
  constexpr size_t kBases = kTakesSegments ? kRows : (kRows + 2) / 3;
  __m512i acc[kPhases][kRows][kPanels];
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    const size_t at = column + p * kPanelWidth;
    const __m512i bias = load_words(epilogue.bias + at);
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      acc[0][r][p] = start_value(epilogue, bias, r, at);
      unroll<1, kPhases>([&](auto s) Q8_INLINE_LAMBDA { acc[s][r][p] = _mm512_setzero_si512(); });
    });
  });
  const size_t lda = a.lda / sizeof(Element);
  const size_t run_stride = a.run_stride / sizeof(Element);
  const bool has_segments = kTakesSegments && a.source != nullptr;
  const Element* base[kBases];
  const auto start_run = [&](size_t run) Q8_INLINE_LAMBDA {
    unroll<0, kBases>([&](auto g) Q8_INLINE_LAMBDA {
      base[g] = has_segments ? reinterpret_cast<const Element*>(a.source[g * a.segments + run])
                             : static_cast<const Element*>(a.data) + run * run_stride +
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
  const size_t runs = a.segments;
  const size_t run_k = runs > 1 ? a.segment : k;
  // Only K as a whole may end inside a step.
  const size_t full = (kReadsInPlace ? run_k : run_k + kKr - 1) / kKr * kKr;
  const int8_t* b_row = b;
  // Few rows have no second pass over a chunk, to which fetching ahead would matter.
  constexpr bool kFetches = kRows > 2;
  // As a number: it leaves the array.
  [[maybe_unused]] const int8_t* b_ahead =
      reinterpret_cast<const int8_t*>(reinterpret_cast<uintptr_t>(b) + static_cast<size_t>(ahead));
  size_t next_run = 0;
  do {
    start_run(next_run);
    size_t i = 0;
    for (; i + kPhases * kKr <= full; i += kPhases * kKr) {
      unroll<0, kPhases>([&](auto s) Q8_INLINE_LAMBDA {
        const size_t at = i + s * kKr;
        if constexpr (kFetches) {
          unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
            __builtin_prefetch(b_ahead + s * kKr * kPanelWidth + p * panel_stride, 0, 2);
          });
        }
        multiply_step<kRows, kPanels>(acc[s], b_row + s * kKr * kPanelWidth, panel_stride,
                                      [&](auto r)
                                          Q8_INLINE_LAMBDA { return load_word(row(r) + at); });
      });
      b_row += kPhases * kKr * kPanelWidth;
      if constexpr (kFetches) b_ahead += kPhases * kKr * kPanelWidth;
    }
    if constexpr (kPhases > 1) {
      for (; i < full; i += kKr) {
        multiply_step<kRows, kPanels>(acc[0], b_row, panel_stride, [&](auto r) Q8_INLINE_LAMBDA {
          return load_word(row(r) + i);
        });
        b_row += kKr * kPanelWidth;
        if constexpr (kFetches) b_ahead += kKr * kPanelWidth;
      }
    }
  } while (++next_run < runs);
  if constexpr (kReadsInPlace) {
    if (full != run_k) {
      multiply_step<kRows, kPanels>(acc[0], b_row, panel_stride,
                                    [&](auto r) Q8_INLINE_LAMBDA { return load_tail(row(r), k); });
    }
  }
  if constexpr (kIsBounded) {
    if (fixes != nullptr) {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        const PanelFix& fix = fixes[p];
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

  if (rounding_of(epilogue) == Rounding::kPlain) {
    store_tile<kRows, kPanels, Rounding::kPlain>(epilogue, acc[0], column, cols, c, ldc);
  } else {
    store_tile<kRows, kPanels>(epilogue, acc[0], column, cols, c, ldc);
  }
}

/// Exactly kRows rows: as many panels at a time as are left, in a descending choice of widths.
template <size_t kRows, size_t kPanels = panels_for(kRows)>
void gemm_rows(size_t cols, size_t k, const TileA& a, const int8_t* b, size_t panel_stride,
               const PanelFix* fixes, ptrdiff_t ahead, const Epilogue& epilogue, size_t column,
               void* c, size_t ldc) {
  while (cols > (kPanels - 1) * kPanelWidth) {
    const size_t width = cols < kPanels * kPanelWidth ? cols : kPanels * kPanelWidth;
    multiply<kRows, kPanels>(width, k, a, b, panel_stride, fixes, ahead, epilogue, column, c, ldc);
    cols -= width;
    column += width;
    b += kPanels * panel_stride;
    if (fixes != nullptr) fixes += kPanels;
    if (cols == 0) return;
  }
  if constexpr (kPanels > 1) {
    gemm_rows<kRows, (kPanels == 3 ? 2 : kPanels / 2)>(cols, k, a, b, panel_stride, fixes, ahead,
                                                       epilogue, column, c, ldc);
  }
}

using GemmRowsFn = void (*)(size_t, size_t, const TileA&, const int8_t*, size_t, const PanelFix*,
                            ptrdiff_t, const Epilogue&, size_t, void*, size_t);

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
/// nothing. The fields of `b` are passed one by one: a copy of the struct would be read by vectors,
/// which have to wait until the caller's stores of its fields, and all stores of the tile before,
/// have left the core.
void gemm(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
          const Epilogue& epilogue, void* c, size_t ldc) {
  kByRows.run[rows - 1](cols, k, a, b.data, b.panel_stride, b.fix, b.ahead, epilogue, 0, c, ldc);
}

/// Stores those of 64 bytes that `mask` has as elements of packed A.
inline void store_elements(uint8_t* out, __mmask64 mask, __m512i bytes) {
  _mm512_mask_storeu_epi8(out, mask, bytes);
}
inline void store_elements(int16_t* out, __mmask64 mask, __m512i bytes) {
  _mm512_mask_storeu_epi16(out, static_cast<__mmask32>(mask),
                           _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes)));
  _mm512_mask_storeu_epi16(out + 32, static_cast<__mmask32>(mask >> 32),
                           _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1)));
}

/// GemmKernels::pack_a. The sums of rows come with the copy, by VPSADBW.
void pack_rows(size_t rows, size_t segments, size_t segment_bytes, const uint8_t* const* source,
               uint8_t flip, void* dst, size_t dst_stride, int32_t* row_sum) {
  using Element = Dot::Element;
  constexpr size_t kBlock = 64;
  const size_t k = segments * segment_bytes;
  const __m512i flips = _mm512_set1_epi8(static_cast<char>(flip));
  const size_t whole = segment_bytes / kBlock * kBlock;
  const __mmask64 tail = (__mmask64{1} << (segment_bytes - whole)) - 1;
  for (size_t r = 0; r < rows; ++r) {
    Element* const row = reinterpret_cast<Element*>(static_cast<uint8_t*>(dst) + r * dst_stride);
    Element* out = row;
    __m512i sum = _mm512_setzero_si512();
    for (size_t s = 0; s < segments; ++s, out += segment_bytes) {
      const uint8_t* in = source[r * segments + s];
      const auto pack = [&](size_t i, __mmask64 mask) Q8_INLINE_LAMBDA {
        const __m512i bytes = _mm512_maskz_mov_epi8(
            mask, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, in + i), flips));
        store_elements(out + i, mask, bytes);
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(bytes, _mm512_setzero_si512()));
      };
      for (size_t i = 0; i < whole; i += kBlock) pack(i, ~__mmask64{0});
      if (tail != 0) pack(whole, tail);
    }
    for (size_t i = k; i % kKr != 0; ++i) row[i] = 0;
    if (row_sum != nullptr) row_sum[r] = static_cast<int32_t>(_mm512_reduce_add_epi64(sum));
  }
}

inline __m512i load_sums(const uint8_t* p, __mmask64 mask) {
  return _mm512_sad_epu8(_mm512_maskz_loadu_epi8(mask, p), _mm512_setzero_si512());
}
inline __m512i load_sums(const int16_t* p, __mmask64 mask) {
  return _mm512_madd_epi16(_mm512_maskz_loadu_epi16(static_cast<__mmask32>(mask), p),
                           _mm512_set1_epi16(1));
}

/// GemmKernels::sum_a.
void sum_rows(size_t rows, size_t segments, size_t segment, const uint8_t* const* source,
              int32_t* row_sum) {
  using Element = Dot::Element;
  constexpr size_t kBlock = sizeof(__m512i) / sizeof(Element);
  const size_t whole = segment / kBlock * kBlock;
  const __mmask64 tail = (__mmask64{1} << (segment - whole)) - 1;
  for (size_t r = 0; r < rows; ++r) {
    // Lanes of 64 bits of bytes, of 32 of words: what VPSADBW leaves fits 32.
    __m512i sum = _mm512_setzero_si512();
    for (size_t s = 0; s < segments; ++s) {
      const Element* in = reinterpret_cast<const Element*>(source[r * segments + s]);
      for (size_t i = 0; i < whole; i += kBlock)
        sum = _mm512_add_epi32(sum, load_sums(in + i, ~__mmask64{0}));
      if (tail != 0) sum = _mm512_add_epi32(sum, load_sums(in + whole, tail));
    }
    row_sum[r] = _mm512_reduce_add_epi32(sum);
  }
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

constexpr GemmKernels make_kernels() {
  GemmKernels kernels = {
      Dot::kInstruction,
      /*kr=*/Dot::kKr,
      /*a_element_bytes=*/sizeof(Dot::Element),
      /*a_in_place=*/kReadsInPlace,
      /*a_signed=*/false,
      pack_rows,
      sum_rows,
      pack_b_panel<Dot::kKr>,
      kTiles + kSkippedTiles,
      sizeof(kTiles) / sizeof(kTiles[0]) - kSkippedTiles,
      peak_loop,
      Dot::kBounded ? find_unbounded : nullptr,
  };
  kernels.macs_per_thread = Dot::kMacsPerThread;
  return kernels;
}

constexpr GemmKernels kGemmKernels = make_kernels();

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
