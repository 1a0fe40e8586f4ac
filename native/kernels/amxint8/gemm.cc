// SPDX-License-Identifier: MIT
/// u8 x s8 and s8 x s8 GEMM on the tile registers of AMX.
///
/// TDPBUSD and TDPBSSD add 16 x 16 sums of 64 products each in 16 cycles, eight times what VPDPBUSD
/// does, and wrap. Packed B is K4N16 as elsewhere: 16 rows of a panel are one tile of 1 KiB, so
/// panels are filled with zeros to a multiple of 64 k. A is read in place where its rows begin at
/// lines of the cache.
///
/// Registers: 32 rows take 2 x 2 accumulators, 2 A and 2 B (4 loads of 8 cycles for 64 cycles of
/// products); up to 16 rows take 1 x 4 accumulators, 1 A and 3 B in turns. A tile has 16 rows;
/// where there are fewer left it overlaps the one before, and what both make is the same.
///
/// Sums reach the epilogue through memory, and a call walks along all of its rows and columns:
/// while a block is multiplied, the vector units finish the one before, some rows in each step of
/// K. They are slower meanwhile: products and stores of tiles take the second port of 512-bit
/// operations.
#define Q8_TARGET amxint8
#include "kernels/amxint8/tiles-inl.h"
#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/zmm-epilogue-inl.h"

namespace q8 {

namespace avx512vnni {
extern const GemmKernels kGemm;
}

namespace Q8_TARGET {
namespace {

constexpr size_t kTileRows = 16;
/// k of a product, and bytes of a row of A in a tile.
constexpr size_t kStep = 64;
/// Up to here VPDPBUSD is mostly faster: its sums are in registers where the epilogue needs them.
/// Enough for a kernel of 3x3 over three channels with its rows filled.
constexpr size_t kMaxShortK = 40;
/// A tile of B.
constexpr size_t kTileBytes = kStep * kPanelWidth;
constexpr size_t kKr = 4;
constexpr size_t kMaxRows = 2 * kTileRows;
constexpr size_t kMaxPanels = 4;
/// Accumulators of a tile.
constexpr size_t kTileSums = kTileRows * kPanelWidth;
/// Rows that the epilogue takes side by side.
constexpr size_t kFinishRows = 4;

/// Panels of a block of one or two tiles of rows; always four accumulators.
constexpr size_t panels_for(size_t row_tiles) { return kMaxPanels / row_tiles; }

/// Registers of a block: accumulators 0 to 3, A from 4 on, B behind it.
constexpr size_t acc_at(size_t r, size_t p) { return 2 * r + p; }
constexpr size_t a_at(size_t r) { return 4 + r; }
constexpr size_t kBRegisters = 3;
constexpr size_t b_at(size_t row_tiles, size_t p) {
  return row_tiles == 2 ? 6 + p : 5 + p % kBRegisters;
}

/// GemmKernels::enter.
void enter(size_t rows) {
  const size_t live = rows < kTileRows ? rows : kTileRows;
  TileConfig config;
  for (size_t tile = 0; tile < 8; ++tile) {
    // Of A and accumulators; only tall blocks have register 5 as A, and they have whole tiles.
    config.rows[tile] = static_cast<uint8_t>(tile <= a_at(0) ? live : kTileRows);
    config.row_bytes[tile] = kStep;
  }
  load_config(config);
}

/// Accumulators of rows and panels for store_tile(), from stored tiles.
template <bool kHasZeroPoints, size_t kPanels>
class StoredRows {
 public:
  Q8_ALWAYS_INLINE StoredRows(const Epilogue& e, const int32_t* sums, size_t row, size_t column)
      : e_(e), sums_(sums), row_(row), column_(column) {
    unroll<0, kPanels>(
        [&](auto p) Q8_INLINE_LAMBDA { bias_[p] = load_words(e.bias + column + p * kPanelWidth); });
  }

  class Row {
   public:
    Q8_ALWAYS_INLINE Row(const StoredRows& all, size_t r) : all_(all), r_(r) {}
    Q8_ALWAYS_INLINE __m512i operator[](size_t p) const {
      const __m512i sums = load_words(all_.sums_ + p * kTileSums + r_ * kPanelWidth);
      if constexpr (!kHasZeroPoints) return _mm512_add_epi32(sums, all_.bias_[p]);
      return _mm512_add_epi32(sums, start_value(all_.e_, all_.bias_[p], all_.row_ + r_,
                                                all_.column_ + p * kPanelWidth));
    }

   private:
    const StoredRows& all_;
    size_t r_;
  };
  Q8_ALWAYS_INLINE Row operator[](size_t r) const { return Row(*this, r); }

 private:
  const Epilogue& e_;
  const int32_t* sums_;
  size_t row_;
  size_t column_;
  __m512i bias_[kPanels];
};

/// Finishes rows [row, row + rows) and columns [column, column + cols) of a call: rows of stored
/// tiles, one for each panel.
using FinishFn = void (*)(const Epilogue& e, const int32_t* sums, size_t row, size_t rows,
                          size_t column, size_t cols, void* c, size_t ldc);

template <OutKind kKind, Rounding kRounding, bool kHasZeroPoints, size_t kPanels>
void finish_rows(const Epilogue& given, const int32_t* sums, size_t row, size_t rows, size_t column,
                 size_t cols, void* c, size_t ldc) {
  // A copy that no store of codes can change.
  Epilogue e = given;
  e.kind = kKind;
  constexpr size_t kElement = kKind == OutKind::kU8 || kKind == OutKind::kS8 ? 1 : sizeof(int32_t);
  uint8_t* out = static_cast<uint8_t*>(c) + row * ldc * kElement;
  const auto finish = [&](auto count) Q8_INLINE_LAMBDA {
    store_tile<count, kPanels, kRounding>(
        e, StoredRows<kHasZeroPoints, kPanels>(e, sums, row, column), column, cols, out, ldc);
    sums += count * kPanelWidth;
    out += count * ldc * kElement;
    row += count;
    rows -= count;
  };
  while (rows >= kFinishRows) finish(Index<kFinishRows>{});
  while (rows != 0) finish(Index<1>{});
}

template <bool kHasZeroPoints, size_t kPanels, OutKind kKind>
FinishFn choose_rounding(const Epilogue& e) {
  switch (rounding_of(e)) {
    case Rounding::kPlain:
      return finish_rows<kKind, Rounding::kPlain, kHasZeroPoints, kPanels>;
    case Rounding::kFits:
      return finish_rows<kKind, Rounding::kFits, kHasZeroPoints, kPanels>;
    default:
      return finish_rows<kKind, Rounding::kGeneral, kHasZeroPoints, kPanels>;
  }
}

template <bool kHasZeroPoints, size_t kPanels>
FinishFn choose_kind(const Epilogue& e) {
  switch (e.kind) {
    case OutKind::kS32:
      return finish_rows<OutKind::kS32, Rounding::kGeneral, kHasZeroPoints, kPanels>;
    case OutKind::kF32:
      return finish_rows<OutKind::kF32, Rounding::kGeneral, kHasZeroPoints, kPanels>;
    case OutKind::kU8:
      return choose_rounding<kHasZeroPoints, kPanels, OutKind::kU8>(e);
    default:
      return choose_rounding<kHasZeroPoints, kPanels, OutKind::kS8>(e);
  }
}

template <size_t kPanels>
FinishFn choose_finish(const Epilogue& e) {
  return e.b_zero_point == nullptr ? choose_kind<false, kPanels>(e) : choose_kind<true, kPanels>(e);
}

/// One step of K of a block; `a` has the tiles of rows.
template <size_t kRowTiles, size_t kPanels, bool kSignedA>
Q8_ALWAYS_INLINE void multiply_step(const uint8_t* const (&a)[2], size_t at, size_t lda,
                                    const int8_t* b, size_t panel_stride) {
  const auto load_b = [&](auto p) Q8_INLINE_LAMBDA {
    stream_tile<b_at(kRowTiles, p)>(b + p * panel_stride, kStep);
  };
  load_tile<a_at(0)>(a[0] + at, lda);
  load_b(Index<0>{});
  if constexpr (kRowTiles == 2) load_tile<a_at(1)>(a[1] + at, lda);
  unroll < 1, kPanels<kBRegisters ? kPanels : kBRegisters>(load_b);
  unroll<0, kRowTiles>([&](auto r) Q8_INLINE_LAMBDA {
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      if constexpr (p >= kBRegisters) load_b(p);
      multiply_tiles<kSignedA, acc_at(r, p), a_at(r), b_at(kRowTiles, p)>();
    });
  });
}

/// A row of tiles of a block: 16 rows of C, or those of them that are left to be finished.
struct BlockRow {
  const int32_t* sums = nullptr;
  /// Rows of the tiles before the first that counts: they are another tile's.
  size_t skipped = 0;
  size_t row = 0;
  size_t rows = 0;
};

/// A part of C on its way.
struct Block {
  BlockRow part[2];
  FinishFn finish = nullptr;
  size_t column = 0;
  size_t cols = 0;
};

/// A call of a tile: walks along columns, 32 rows at a time.
template <bool kSignedA>
class Walk {
 public:
  Walk(size_t cols, size_t k, const TileA& a, const TileB& b, const Epilogue& epilogue, void* c,
       size_t ldc)
      : cols_(cols),
        k_(k),
        a_(a),
        b_(b.data),
        panel_stride_(b.panel_stride),
        // As a number: it leaves the array.
        b_ahead_(b.ahead == 0 ? nullptr
                              : reinterpret_cast<const int8_t*>(reinterpret_cast<uintptr_t>(b_) +
                                                                static_cast<size_t>(b.ahead))),
        epilogue_(epilogue),
        c_(c),
        ldc_(ldc),
        has_tail_(k % kStep != 0 && !a.is_padded),
        steps_(has_tail_ ? k / kStep : (k + kStep - 1) / kStep) {}

  void run(size_t rows) {
    groups_ = (rows + kMaxRows - 1) / kMaxRows;
    for (size_t group = 0; group < groups_; ++group) {
      const size_t row = group * kMaxRows;
      const size_t left = rows - row;
      if (left > kTileRows) {
        walk_columns<2>(group, left < kMaxRows ? left : kMaxRows);
      } else {
        walk_columns<1>(group, left);
      }
    }
    finish(kMaxRows);
  }

 private:
  template <size_t kRowTiles>
  void walk_columns(size_t group, size_t rows) {
    constexpr size_t kPanels = panels_for(kRowTiles);
    constexpr size_t kWidth = kPanels * kPanelWidth;
    const size_t row = group * kMaxRows;
    // Where the last tile begins, in rows of the group: with less than 16 left, in those before.
    const size_t skipped =
        rows % kTileRows == 0 || (kRowTiles == 1 && row == 0) ? 0 : kTileRows - rows % kTileRows;
    const uint8_t* const first = static_cast<const uint8_t*>(a_.data) + row * a_.lda;
    const uint8_t* const last = first + (kRowTiles - 1) * kTileRows * a_.lda - skipped * a_.lda;
    const uint8_t* const a[2] = {kRowTiles == 1 ? last : first, last};
    if (has_tail_) copy_tail<kRowTiles>(a, row == 0 && rows < kTileRows ? rows : kTileRows);
    Block block;
    block.finish = choose_finish<kPanels>(epilogue_);
    block.cols = kWidth;
    for (size_t r = 0; r < kRowTiles; ++r) {
      BlockRow& part = block.part[r];
      part.row = row + r * kTileRows;
      part.rows = r + 1 < kRowTiles ? kTileRows : rows - r * kTileRows;
      if (r + 1 == kRowTiles) part.skipped = skipped;
    }
    const int8_t* b = b_;
    for (; cols_ - block.column > kWidth; block.column += kWidth) {
      multiply<kRowTiles, kPanels>(group, a, b, block);
      b += kPanels * panel_stride_;
    }
    multiply_last<kRowTiles, kPanels>(group, a, b, block);
  }

  /// The last block of a group: as many panels as there are.
  template <size_t kRowTiles, size_t kPanels>
  void multiply_last(size_t group, const uint8_t* const (&a)[2], const int8_t* b, Block& block) {
    block.cols = cols_ - block.column;
    if constexpr (kPanels > 1) {
      if (block.cols <= (kPanels - 1) * kPanelWidth) {
        return multiply_last<kRowTiles, kPanels - 1>(group, a, b, block);
      }
    }
    block.finish = choose_finish<kPanels>(epilogue_);
    multiply<kRowTiles, kPanels>(group, a, b, block);
  }

  template <size_t kRowTiles, size_t kPanels>
  void multiply(size_t group, const uint8_t* const (&a)[2], const int8_t* b, const Block& block) {
    unroll<0, kRowTiles>([&](auto r) Q8_INLINE_LAMBDA {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { zero_tile<acc_at(r, p)>(); });
    });
    // Rows of the block before are spread over the steps, and some are left for the stores.
    const size_t parts =
        (before_.part[0].rows + before_.part[1].rows + kFinishRows - 1) / kFinishRows;
    const size_t steps = steps_;
    const size_t slots = steps + 1;
    size_t due = 0;
    const size_t lda = a_.lda;
    const size_t panel_stride = panel_stride_;
    for (size_t step = 0; step < steps; ++step) {
      multiply_step<kRowTiles, kPanels, kSignedA>(a, step * kStep, lda, b + step * kTileBytes,
                                                  panel_stride);
      // Few rows have no second pass over the chunk, to which this would matter.
      if (kRowTiles == 2 && b_ahead_ != nullptr) {
        fetch<kPanels>(group, b_ahead_ + (b - b_) + step * kTileBytes);
      }
      due += parts;
      if (due >= slots) {
        size_t count = 0;
        for (; due >= slots; due -= slots) count += kFinishRows;
        finish(count);
      }
    }
    if (has_tail_) {
      const uint8_t* const tails[2] = {tail_, tail_ + kTileRows * kStep};
      multiply_step<kRowTiles, kPanels, kSignedA>(tails, 0, kStep, b + steps * kTileBytes,
                                                  panel_stride);
    }
    int32_t(*const sums)[kTileSums] = sums_[next_sums_];
    next_sums_ ^= 1;
    unroll<0, kRowTiles>([&](auto r) Q8_INLINE_LAMBDA {
      unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
        store_tile_register<acc_at(r, p)>(sums[acc_at(r, p)], kStep);
      });
    });
    finish(kMaxRows);
    before_ = block;
    for (size_t r = 0; r < kRowTiles; ++r) {
      BlockRow& part = before_.part[r];
      part.sums = sums[acc_at(r, 0)] + part.skipped * kPanelWidth;
    }
  }

  /// Each group fetches a part of the lines.
  template <size_t kPanels>
  Q8_ALWAYS_INLINE void fetch(size_t group, const int8_t* b) {
    constexpr size_t kLine = 64;
    constexpr size_t kLines = kTileBytes / kLine;
    const size_t end = kLines * (group + 1) / groups_ * kLine;
    for (size_t at = kLines * group / groups_ * kLine; at < end; at += kLine) {
      unroll<0, kPanels>(
          [&](auto p) Q8_INLINE_LAMBDA { __builtin_prefetch(b + p * panel_stride_ + at, 0, 2); });
    }
  }

  /// So many of the rows that are left of the block before.
  void finish(size_t count) {
    for (BlockRow& part : before_.part) {
      const size_t rows = count < part.rows ? count : part.rows;
      if (rows == 0) continue;
      before_.finish(epilogue_, part.sums, part.row, rows, before_.column, before_.cols, c_, ldc_);
      part.sums += rows * kPanelWidth;
      part.row += rows;
      part.rows -= rows;
      count -= rows;
    }
  }

  /// What is left of k behind whole steps, filled with zeros.
  template <size_t kRowTiles>
  void copy_tail(const uint8_t* const (&a)[2], size_t rows) {
    const size_t rest = k_ % kStep;
    const __mmask64 mask = (__mmask64{1} << rest) - 1;
    for (size_t t = 0; t < kRowTiles; ++t) {
      for (size_t r = 0; r < rows; ++r) {
        _mm512_store_si512(tail_ + (t * kTileRows + r) * kStep,
                           _mm512_maskz_loadu_epi8(mask, a[t] + r * a_.lda + k_ - rest));
      }
    }
    fence_writes();
  }

  alignas(64) int32_t sums_[2][kMaxPanels][kTileSums];
  alignas(64) uint8_t tail_[kMaxRows * kStep];
  const size_t cols_;
  const size_t k_;
  const TileA& a_;
  const int8_t* const b_;
  const size_t panel_stride_;
  const int8_t* const b_ahead_;
  const Epilogue& epilogue_;
  void* const c_;
  const size_t ldc_;
  const bool has_tail_;
  /// Whole steps of K.
  const size_t steps_;
  size_t groups_ = 0;
  /// The block before, whose sums are stored.
  Block before_;
  size_t next_sums_ = 0;
};

/// GemmTile::run of every tile.
template <bool kSignedA>
void gemm(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
          const Epilogue& epilogue, void* c, size_t ldc) {
  Walk<kSignedA>(cols, k, a, b, epilogue, c, ldc).run(rows);
}

/// 16 sums of four codes each, as they are.
template <bool kSignedA>
inline __m512i add_codes(__m512i sum, __m512i codes) {
  const __m512i ones = _mm512_set1_epi8(1);
  return kSignedA ? _mm512_dpbusd_epi32(sum, ones, codes) : _mm512_dpbusd_epi32(sum, codes, ones);
}

/// GemmKernels::pack_a. What a run leaves of a line is stored with it and overwritten by the next.
template <bool kSignedA>
void pack_rows(size_t rows, size_t segments, size_t segment_bytes, const uint8_t* const* source,
               uint8_t flip, void* dst, size_t dst_stride, int32_t* row_sum) {
  const size_t k = segments * segment_bytes;
  const size_t padded_k = (k + kStep - 1) / kStep * kStep;
  const __m512i flips = _mm512_set1_epi8(static_cast<char>(flip));
  const size_t whole = segment_bytes / kStep * kStep;
  const __mmask64 tail = (__mmask64{1} << (segment_bytes - whole)) - 1;
  for (size_t r = 0; r < rows; ++r) {
    uint8_t* const row = static_cast<uint8_t*>(dst) + r * dst_stride;
    uint8_t* const end = row + padded_k;
    uint8_t* out = row;
    __m512i sum = _mm512_setzero_si512();
    for (size_t s = 0; s < segments; ++s, out += segment_bytes) {
      const uint8_t* in = source[r * segments + s];
      for (size_t i = 0; i < whole; i += kStep) {
        const __m512i codes = _mm512_xor_si512(_mm512_loadu_si512(in + i), flips);
        _mm512_storeu_si512(out + i, codes);
        sum = add_codes<kSignedA>(sum, codes);
      }
      if (tail == 0) continue;
      const __m512i codes = _mm512_maskz_mov_epi8(
          tail, _mm512_xor_si512(_mm512_maskz_loadu_epi8(tail, in + whole), flips));
      const size_t room = static_cast<size_t>(end - (out + whole));
      _mm512_mask_storeu_epi8(out + whole,
                              room < kStep ? (__mmask64{1} << room) - 1 : ~__mmask64{0}, codes);
      sum = add_codes<kSignedA>(sum, codes);
    }
    _mm512_mask_storeu_epi8(row + k, (__mmask64{1} << (padded_k - k)) - 1, _mm512_setzero_si512());
    if (row_sum != nullptr) row_sum[r] = _mm512_reduce_add_epi32(sum);
  }
}

/// GemmKernels::pack_runs. Lines are copied whole: what a run leaves of its last line is
/// overwritten by the next run or row.
template <bool kSignedA>
void pack_runs(size_t rows, size_t segments, size_t segment_bytes, const uint8_t* first,
               size_t row_bytes, size_t run_stride, void* dst, size_t dst_stride,
               int32_t* row_sum) {
  const __mmask64 last = ~__mmask64{0} >> (kStep - 1 - (segment_bytes - 1) % kStep);
  for (size_t r = 0; r < rows; ++r) {
    uint8_t* out = static_cast<uint8_t*>(dst) + r * dst_stride;
    const uint8_t* in = first + r * row_bytes;
    __m512i sum = _mm512_setzero_si512();
    for (size_t s = 0; s < segments; ++s, in += run_stride, out += segment_bytes) {
      for (size_t i = 0; i < segment_bytes; i += kStep) {
        const __m512i codes = _mm512_loadu_si512(in + i);
        _mm512_storeu_si512(out + i, codes);
        if (row_sum == nullptr) continue;
        const __mmask64 mask = i + kStep < segment_bytes ? ~__mmask64{0} : last;
        sum = add_codes<kSignedA>(sum, _mm512_maskz_mov_epi8(mask, codes));
      }
    }
    if (row_sum != nullptr) row_sum[r] = _mm512_reduce_add_epi32(sum);
  }
}

/// GemmKernels::sum_a.
template <bool kSignedA>
void sum_rows(size_t rows, size_t segments, size_t segment, const uint8_t* const* source,
              int32_t* row_sum) {
  const size_t whole = segment / kStep * kStep;
  const __mmask64 tail = (__mmask64{1} << (segment - whole)) - 1;
  for (size_t r = 0; r < rows; ++r) {
    __m512i sum = _mm512_setzero_si512();
    for (size_t s = 0; s < segments; ++s) {
      const uint8_t* in = source[r * segments + s];
      for (size_t i = 0; i < whole; i += kStep)
        sum = add_codes<kSignedA>(sum, _mm512_loadu_si512(in + i));
      if (tail != 0) sum = add_codes<kSignedA>(sum, _mm512_maskz_loadu_epi8(tail, in + whole));
    }
    row_sum[r] = _mm512_reduce_add_epi32(sum);
  }
}

/// GemmKernels::pack_b_panel.
void pack_panel(size_t k, size_t columns, const uint8_t* b, size_t stride_k, size_t stride_n,
                uint8_t flip, int8_t* dst, int32_t* column_sum) {
  pack_b_panel<kKr>(k, columns, b, stride_k, stride_n, flip, dst, column_sum);
  const size_t packed = (k + kKr - 1) / kKr * kKr;
  const size_t padded = (k + kStep - 1) / kStep * kStep;
  for (size_t i = packed * kPanelWidth; i < padded * kPanelWidth; ++i) dst[i] = 0;
}

template <bool kSignedA>
constexpr GemmTile kTiles[] = {
    {"32x32", kMaxRows, 2 * kPanelWidth, gemm<kSignedA>, false, true},
    {"16x64", kTileRows, 4 * kPanelWidth, gemm<kSignedA>, false, true},
};

/// GemmKernels::step_cost: cycles of the products and, as little as they count, of the loads.
size_t step_cost(size_t rows, size_t panels) {
  return rows * panels + 2 * panels + 2 * ((rows + kTileRows - 1) / kTileRows);
}

/// The products of a step of 32x32.
size_t peak_loop(size_t iterations) {
  enter(kMaxRows);
  for (size_t i = 0; i < iterations; ++i) {
    unroll<0, 4>([](auto j)
                     Q8_INLINE_LAMBDA { multiply_tiles<false, j, a_at(j / 2), b_at(2, j % 2)>(); });
  }
  release_tiles();
  return 4 * kTileRows * kTileBytes;
}

template <bool kSignedA>
constexpr GemmKernels make_kernels(const GemmKernels* signed_a) {
  GemmKernels kernels = {
      kSignedA ? "tdpbssd" : "tdpbusd",
      /*kr=*/kKr,
      /*a_element_bytes=*/1,
      /*a_in_place=*/true,
      kSignedA,
      pack_rows<kSignedA>,
      sum_rows<kSignedA>,
      pack_panel,
      kTiles<kSignedA>,
      sizeof(kTiles<kSignedA>) / sizeof(GemmTile),
      peak_loop,
      /*find_unbounded=*/nullptr,
  };
  kernels.k_multiple = kStep;
  kernels.a_alignment = kStep;
  kernels.macs_per_thread = 1 << 24;
  kernels.short_form = &avx512vnni::kGemm;
  kernels.short_k = kMaxShortK;
  kernels.signed_a = signed_a;
  kernels.pack_runs = pack_runs<kSignedA>;
  kernels.step_cost = step_cost;
  kernels.enter = enter;
  kernels.leave = release_tiles;
  return kernels;
}

constexpr GemmKernels kSignedKernels = make_kernels<true>(nullptr);

}  // namespace

extern const GemmKernels kGemm = make_kernels<false>(&kSignedKernels);

}  // namespace Q8_TARGET
}  // namespace q8
