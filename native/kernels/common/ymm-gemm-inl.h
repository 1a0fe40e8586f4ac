// SPDX-License-Identifier: MIT
/// GEMM on ymm: the tiles, their epilogue and the peak loop of every room with sixteen registers of
/// eight int32 lanes. Included once by kernels/<isa>/gemm.cc after Q8_TARGET and, in the room's
/// namespace, what the multiply-add is:
///
///   struct Dot {
///     static constexpr const char* kInstruction;
///     using Element = ...;           // of A: uint8_t, read in place, or int16_t, packed
///     static constexpr size_t kKr;   // products that a multiply-add sums in a lane
///     static constexpr bool kBounded;  // exact only for bounded weights
///     static __m256i load_b(const int8_t* p);  // 8 columns x kKr of a row of packed B
///     static void multiply_add(__m256i& acc, __m256i a, __m256i b);
///     static void multiply_add_halves(__m256i& lo, __m256i& hi, __m256i a, __m256i b_lo,
///                                     __m256i b_hi);
///     static void multiply_add_row(__m256i& lo, __m256i& hi, __m256i a, const int8_t* b);
///   };
///
/// multiply_add_row takes a row of B from memory; forms for bounded weights have it, the others
/// multiply_add_halves.
///
/// Registers of the 6x16 tile: 12 accumulators + 2 B + 1 A, and one is left for a product. Bounded:
/// 12 accumulators + 1 A + 1 product + the constant that sums pairs.
#include <immintrin.h>

#include "kernels/common/a-words-inl.h"
#include "kernels/common/bounded-inl.h"
#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// For gemm-pack-inl.h: by VPSADBW, which compilers do not find.
inline int32_t sum_row(const uint8_t* row, size_t k) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i sums = zero;
  size_t i = 0;
  for (; i + 32 <= k; i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i));
    sums = _mm256_add_epi64(sums, _mm256_sad_epu8(bytes, zero));
  }
  for (; i + 8 <= k; i += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i));
    sums = _mm256_add_epi64(
        sums, _mm256_zextsi128_si256(_mm_sad_epu8(bytes, _mm256_castsi256_si128(zero))));
  }
  const __m128i halves =
      _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  uint32_t sum = static_cast<uint32_t>(
      _mm_cvtsi128_si32(_mm_add_epi64(halves, _mm_unpackhi_epi64(halves, halves))));
  for (; i < k; ++i) sum += row[i];
  return static_cast<int32_t>(sum);
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

#include "kernels/common/gemm-pack-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// Accumulator vectors hold 8 columns; a panel is two of them.
constexpr size_t kLanes = 8;
/// Bytes of A need no packing; then k may end inside a step, where packed A has zeros.
constexpr bool kReadsInPlace = sizeof(Dot::Element) == 1;
/// Packed B may come with a PanelFix.
constexpr bool kIsBounded = Dot::kBounded;

inline __m256i load_s32(const int32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

/// Lane i is all ones when i < count; the mask of VPMASKMOVD.
inline __m256i lane_mask(size_t count) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
}

inline void copy_codes(__m128i codes, size_t cols, uint8_t* out) {
  if (cols == kPanelWidth) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), codes);
    return;
  }
  alignas(16) uint8_t bytes[kPanelWidth];
  _mm_store_si128(reinterpret_cast<__m128i*>(bytes), codes);
  for (size_t n = 0; n < cols; ++n) out[n] = bytes[n];
}

/// Two vectors of a panel: columns 0-7 and 8-15.
struct Panel {
  __m256i lo;
  __m256i hi;
};

/// What the accumulators of a row of a panel start from: all that the epilogue adds to them.
/// `column` is the panel's first column inside the tile.
Q8_ALWAYS_INLINE Panel start_value(const Epilogue& e, size_t row, size_t column) {
  Panel start = {load_s32(e.bias + column), load_s32(e.bias + column + kLanes)};
  if (e.b_zero_point != nullptr) {
    const __m256i sum = _mm256_set1_epi32(e.row_sum[row]);
    start.lo =
        _mm256_sub_epi32(start.lo, _mm256_mullo_epi32(sum, load_s32(e.b_zero_point + column)));
    start.hi = _mm256_sub_epi32(
        start.hi, _mm256_mullo_epi32(sum, load_s32(e.b_zero_point + column + kLanes)));
  }
  return start;
}

/// Columns cols..15 are left alone in memory.
Q8_ALWAYS_INLINE void store_words(Panel words, size_t cols, void* out) {
  int32_t* p = static_cast<int32_t*>(out);
  if (cols == kPanelWidth) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words.lo);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + kLanes), words.hi);
    return;
  }
  _mm256_maskstore_epi32(p, lane_mask(cols), words.lo);
  if (cols > kLanes) _mm256_maskstore_epi32(p + kLanes, lane_mask(cols - kLanes), words.hi);
}

/// Codes of a panel, two rows at a time. Above, the clamp must come before the conversion, which
/// makes INT_MIN of what is too large. Below, INT_MIN is on the right side: saturating and a
/// maximum of codes finish it.
template <bool kSigned, size_t kRows, typename Accumulators>
Q8_ALWAYS_INLINE void store_codes(const Epilogue& e, const Accumulators& panel_of, size_t rows,
                                  size_t column, size_t cols, uint8_t* c, size_t ldc) {
  const __m256 scale_lo = _mm256_loadu_ps(e.scale + column);
  const __m256 scale_hi = _mm256_loadu_ps(e.scale + column + kLanes);
  const __m256 upper = _mm256_set1_ps(e.hi);
  const __m256i zero_point = _mm256_set1_epi16(static_cast<int16_t>(e.zero_point));
  const __m256i least =
      _mm256_set1_epi8(static_cast<char>(static_cast<int32_t>(e.lo) + e.zero_point));
  const auto words_of = [&](auto r) Q8_INLINE_LAMBDA {
    const Panel acc = panel_of(r);
    const __m256 lo = _mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc.lo), scale_lo), upper);
    const __m256 hi = _mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc.hi), scale_hi), upper);
    return _mm256_adds_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi)),
                             zero_point);
  };
  unroll<0, (kRows + 1) / 2>([&](auto half) Q8_INLINE_LAMBDA {
    constexpr size_t r = 2 * half;
    if (r >= rows) return;
    const __m256i first = words_of(Index<r>{});
    const __m256i second = words_of(Index<(r + 1 < kRows ? r + 1 : r)>{});
    const __m256i bytes = kSigned ? _mm256_max_epi8(_mm256_packs_epi16(first, second), least)
                                  : _mm256_max_epu8(_mm256_packus_epi16(first, second), least);
    // Packs work within 128 bits: a lane holds columns 0-3 and 8-11, or 4-7 and 12-15, of each row.
    const __m256i codes =
        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    copy_codes(_mm256_castsi256_si128(codes), cols, c + r * ldc + column);
    if (r + 1 >= rows) return;
    copy_codes(_mm256_extracti128_si256(codes, 1), cols, c + (r + 1) * ldc + column);
  });
}

/// The epilogue of one panel of the tile, in registers: what start_value() does not do. One branch
/// on the kind for all rows.
template <size_t kRows, typename Accumulators>
Q8_ALWAYS_INLINE void store_panel(const Epilogue& e, const Accumulators& panel_of, size_t rows,
                                  size_t column, size_t cols, void* c, size_t ldc) {
  if (e.kind == OutKind::kU8) {
    store_codes<false, kRows>(e, panel_of, rows, column, cols, static_cast<uint8_t*>(c), ldc);
    return;
  }
  if (e.kind == OutKind::kS8) {
    store_codes<true, kRows>(e, panel_of, rows, column, cols, static_cast<uint8_t*>(c), ldc);
    return;
  }
  if (e.kind == OutKind::kS32) {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      if (r >= rows) return;
      store_words(panel_of(r), cols, static_cast<int32_t*>(c) + r * ldc + column);
    });
    return;
  }
  const __m256 scale_lo = _mm256_loadu_ps(e.scale + column);
  const __m256 scale_hi = _mm256_loadu_ps(e.scale + column + kLanes);
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    if (r >= rows) return;
    const Panel acc = panel_of(r);
    __m256 lo = _mm256_mul_ps(_mm256_cvtepi32_ps(acc.lo), scale_lo);
    __m256 hi = _mm256_mul_ps(_mm256_cvtepi32_ps(acc.hi), scale_hi);
    if (e.float_bias != nullptr) {
      lo = _mm256_add_ps(lo, _mm256_loadu_ps(e.float_bias + column));
      hi = _mm256_add_ps(hi, _mm256_loadu_ps(e.float_bias + column + kLanes));
    }
    store_words({_mm256_castps_si256(lo), _mm256_castps_si256(hi)}, cols,
                static_cast<float*>(c) + r * ldc + column);
  });
}

/// The products of panel p of one step.
template <typename D, bool kWide, size_t kRows, size_t kPanels, typename LoadA>
Q8_ALWAYS_INLINE void multiply_panel(Panel (&acc)[kRows][kPanels], size_t p, const int8_t* b_row,
                                     const LoadA& load_a) {
  if constexpr (kIsBounded) {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      D::multiply_add_row(acc[r][p].lo, acc[r][p].hi, _mm256_set1_epi32(load_a(r)), b_row);
    });
  } else {
    const auto load_b = [&](size_t column) Q8_INLINE_LAMBDA {
      if constexpr (kWide) {
        return _mm256_loadu_si256(
            reinterpret_cast<const __m256i*>(b_row + column * D::kKr * sizeof(int16_t)));
      } else {
        return D::load_b(b_row + column * D::kKr);
      }
    };
    __m256i b_lo = load_b(0);
    __m256i b_hi = load_b(kLanes);
#if defined(__GNUC__) && defined(__AVX2__)
    // Hides where the values came from: GCC 12 would load them again for a second row of A.
    __asm__("" : "+x"(b_lo), "+x"(b_hi));
#endif
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      D::multiply_add_halves(acc[r][p].lo, acc[r][p].hi, _mm256_set1_epi32(load_a(r)), b_lo, b_hi);
    });
  }
}

/// kRows x (16 * kPanels) outputs over all of K. A row beyond `rows` repeats the last one and is
/// not stored. kWide: B is one panel that widen() has written.
template <size_t kRows, size_t kPanels, bool kWide = false>
Q8_ALWAYS_INLINE void multiply(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
                               const Epilogue& epilogue, size_t column, void* c, size_t ldc) {
  using Element = Dot::Element;
  constexpr size_t kKr = Dot::kKr;
  Panel acc[kRows][kPanels];
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      acc[r][p] = start_value(epilogue, r < rows ? size_t{r} : rows - 1, column + p * kPanelWidth);
    });
  });
  const Element* row[kRows];
  const auto start_run = [&](size_t run) Q8_INLINE_LAMBDA {
    unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
      const size_t live = r < rows ? size_t{r} : rows - 1;
      row[r] = a.source != nullptr
                   ? reinterpret_cast<const Element*>(a.source[live * a.segments + run])
                   : static_cast<const Element*>(a.data) +
                         (run * a.run_stride + live * a.lda) / sizeof(Element);
    });
  };
  const size_t runs = a.segments;
  const size_t run_k = runs > 1 ? a.segment : k;
  // Only K as a whole may end inside a step.
  const size_t full = kReadsInPlace ? run_k / kKr * kKr : run_k;
  const int8_t* b_row = b.data;
  size_t next_run = 0;
  do {
    start_run(next_run);
    for (size_t i = 0; i < full; i += kKr) {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        multiply_panel<Dot, kWide>(acc, p, b_row + p * b.panel_stride,
                                   [&](auto r) Q8_INLINE_LAMBDA { return load_word(row[r] + i); });
      });
      b_row += kKr * kPanelWidth * (kWide ? sizeof(int16_t) : 1);
    }
  } while (++next_run < runs);
  if constexpr (kReadsInPlace) {
    if (full != run_k) {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        multiply_panel<Dot, kWide>(acc, p, b_row + p * b.panel_stride,
                                   [&](auto r) Q8_INLINE_LAMBDA { return load_tail(row[r], k); });
      });
    }
  }
  if constexpr (kIsBounded) {
    if (b.fix != nullptr) {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        const PanelFix& fix = b.fix[p];
        const int8_t* fix_row = fix.rows;
        size_t run = 0;
        size_t run_start = 0;
        if (runs > 1) start_run(0);
        for (size_t left = fix.count; left != 0; --left, fix_row += kKr * kPanelWidth) {
          const size_t at = size_t{fix.step[fix.count - left]} * kKr;
          if (at - run_start >= run_k) {
            do {
              ++run;
              run_start += run_k;
            } while (at - run_start >= run_k);
            start_run(run);
          }
          const size_t i = at - run_start;
          if (i == full) {
            multiply_panel<Dot, kWide>(
                acc, p, fix_row, [&](auto r) Q8_INLINE_LAMBDA { return load_tail(row[r], k); });
          } else {
            multiply_panel<Dot, kWide>(
                acc, p, fix_row, [&](auto r) Q8_INLINE_LAMBDA { return load_word(row[r] + i); });
          }
        }
      });
    }
  }
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    const size_t left = cols - p * kPanelWidth;
    store_panel<kRows>(
        epilogue, [&](auto r) Q8_INLINE_LAMBDA { return acc[r][p]; }, rows,
        column + p * kPanelWidth, left < kPanelWidth ? left : kPanelWidth, c, ldc);
  });
}

/// multiply() with an instance for whole tiles, which most are: where K is short, finding out which
/// rows exist costs as much as the products.
template <size_t kRows, size_t kPanels, bool kWide = false>
Q8_ALWAYS_INLINE void multiply_rows(size_t rows, size_t cols, size_t k, const TileA& a,
                                    const TileB& b, const Epilogue& epilogue, size_t column,
                                    void* c, size_t ldc) {
  if (rows == kRows && cols == kPanels * kPanelWidth) {
    multiply<kRows, kPanels, kWide>(kRows, kPanels * kPanelWidth, k, a, b, epilogue, column, c,
                                    ldc);
  } else {
    multiply<kRows, kPanels, kWide>(rows, cols, k, a, b, epilogue, column, c, ldc);
  }
}

/// GemmTile::run: kPanels panels at a time while they last, then one by one.
template <size_t kRows, size_t kPanels>
void gemm(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
          const Epilogue& epilogue, void* c, size_t ldc) {
  TileB panel = b;
  size_t column = 0;
  const auto step = [&](auto panels) Q8_INLINE_LAMBDA {
    constexpr size_t kWidth = panels * kPanelWidth;
    const size_t left = cols - column;
    multiply_rows<kRows, panels>(rows, left < kWidth ? left : kWidth, k, a, panel, epilogue, column,
                                 c, ldc);
    column += kWidth;
    panel.data += panels * panel.panel_stride;
    if (panel.fix != nullptr) panel.fix += panels;
  };
  if constexpr (kPanels > 1) {
    while (column + (kPanels - 1) * kPanelWidth < cols) step(Index<kPanels>{});
  }
  while (column < cols) step(Index<1>{});
}

constexpr GemmTile kTiles[] = {
    {"6x16", 6, 16, gemm<6, 1>, /*takes_segments=*/true},
    {"4x16", 4, 16, gemm<4, 1>, /*takes_segments=*/true},
    {"2x32", 2, 32, gemm<2, 2>, /*takes_segments=*/true},
    {"1x64", 1, 64, gemm<1, 4>, /*takes_segments=*/true},
};

void widen(size_t count, const int8_t* from, void* to) {
  int16_t* const out = static_cast<int16_t*>(to);
  for (size_t i = 0; i < count; i += kPanelWidth) {
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(out + i),
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
}

void gemm_wide(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
               const Epilogue& epilogue, void* c, size_t ldc) {
  multiply_rows<6, 1, /*kWide=*/true>(rows, cols, k, a, b, epilogue, 0, c, ldc);
}

constexpr WideTile kWideTile = {widen, gemm_wide};

/// Stores the 16 or 8 low bytes as elements of packed A.
inline void store_16(uint8_t* out, __m128i bytes) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
}
inline void store_16(int16_t* out, __m128i bytes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_cvtepu8_epi16(bytes));
}
inline void store_8(uint8_t* out, __m128i bytes) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), bytes);
}
inline void store_8(int16_t* out, __m128i bytes) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_cvtepu8_epi16(bytes));
}

/// Packs a run. What is left after whole blocks is done by a block that overlaps the one before:
/// segments of a convolution are short, and a tail byte by byte would cost as much as the product.
template <typename Element>
Q8_ALWAYS_INLINE void pack_run(const uint8_t* in, size_t count, __m128i flips, Element* out) {
  const auto pack_16 = [&](size_t i) Q8_INLINE_LAMBDA {
    store_16(out + i,
             _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i)), flips));
  };
  const auto pack_8 = [&](size_t i) Q8_INLINE_LAMBDA {
    store_8(out + i,
            _mm_xor_si128(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + i)), flips));
  };
  if (count >= 16) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16) pack_16(i);
    if (i < count) pack_16(count - 16);
  } else if (count >= 8) {
    pack_8(0);
    pack_8(count - 8);
  } else {
    const uint8_t flip = static_cast<uint8_t>(_mm_cvtsi128_si32(flips));
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<Element>(in[i] ^ flip);
  }
}

/// GemmKernels::pack_a. Written out because compilers make several versions of a plain loop and
/// choose among them for every run.
void pack_rows(size_t rows, size_t segments, size_t segment_bytes, const uint8_t* const* source,
               uint8_t flip, void* dst, size_t dst_stride, int32_t* row_sum) {
  using Element = Dot::Element;
  const __m128i flips = _mm_set1_epi8(static_cast<char>(flip));
  const size_t k = segments * segment_bytes;
  for (size_t r = 0; r < rows; ++r) {
    Element* const row = reinterpret_cast<Element*>(static_cast<uint8_t*>(dst) + r * dst_stride);
    Element* out = row;
    for (size_t s = 0; s < segments; ++s, out += segment_bytes) {
      pack_run(source[r * segments + s], segment_bytes, flips, out);
    }
    for (size_t i = k; i % Dot::kKr != 0; ++i) row[i] = 0;
    if (row_sum != nullptr) row_sum[r] = sum_row(row, k);
  }
}

/// The multiply-adds of a 6x16 step, without the loads.
size_t peak_loop(size_t iterations) {
  constexpr size_t kAccumulators = 12;
  __m256i acc[kAccumulators];
  unroll<0, kAccumulators>([&](auto j) Q8_INLINE_LAMBDA { acc[j] = _mm256_setzero_si256(); });
  const __m256i a = _mm256_set1_epi32(0x00030001);
  const __m256i b = _mm256_set1_epi32(0x00020005);
  for (size_t i = 0; i < iterations; ++i) {
    unroll<0, kAccumulators>([&](auto j) Q8_INLINE_LAMBDA { Dot::multiply_add(acc[j], a, b); });
  }
  unroll<1, kAccumulators>([&](auto j)
                               Q8_INLINE_LAMBDA { acc[0] = _mm256_add_epi32(acc[0], acc[j]); });
  [[maybe_unused]] static volatile int32_t sink;
  sink = _mm256_extract_epi32(acc[0], 0);
  return kAccumulators * kLanes * Dot::kKr;
}

constexpr GemmKernels kGemmKernels = {
    Dot::kInstruction,
    /*kr=*/Dot::kKr,
    /*a_element_bytes=*/sizeof(Dot::Element),
    /*a_in_place=*/kReadsInPlace,
    /*a_signed=*/false,
    pack_rows,
    sum_a<Dot::Element>,
    pack_b_panel<Dot::kKr>,
    kTiles,
    sizeof(kTiles) / sizeof(kTiles[0]),
    peak_loop,
    Dot::kBounded ? find_unbounded : nullptr,
    kReadsInPlace ? nullptr : &kWideTile,
};

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
