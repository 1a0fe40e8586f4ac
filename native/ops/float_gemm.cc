// SPDX-License-Identifier: MIT
#include "ops/float_gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/abort_flag.h"
#include "core/thread_pool.h"

namespace q8 {
namespace {

/// Bytes of A that stay in the second-level cache while the panels of B pass by.
constexpr size_t kBlockBytes = 128 * 1024;
/// All of a B of so many bytes stays in the second-level cache: then C is written row by row.
constexpr size_t kSmallBytes = 128 * 1024;
/// A panel of B that has come into the cache is used by at least so many rows.
constexpr size_t kMinBlockRows = 24;
/// Multiply-adds that pay for waking a thread (about 10 us of AVX2).
constexpr double kMinMacsPerThread = 1 << 18;

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace

Status PackedBF32::pack(const float* b, size_t k, size_t n, bool transposed, PackedBF32* out) {
  out->k_ = k;
  out->n_ = n;
  const size_t bytes = packed_floats(k, n) * sizeof(float);
  out->data_ = AlignedBuffer(bytes);
  if (bytes != 0 && out->data_.data() == nullptr) {
    return {Code::kOutOfMemory, "Cannot allocate memory for packed float weights."};
  }
  pack_into(b, k, n, transposed ? k : n, transposed, reinterpret_cast<float*>(out->data_.data()));
  return {};
}

void PackedBF32::pack_into(const float* b, size_t k, size_t n, size_t ldb, bool transposed,
                           float* dst) {
  for (size_t first = 0; first < n; first += kPanelWidth) {
    const size_t columns = std::min(kPanelWidth, n - first);
    for (size_t i = 0; i < k; ++i, dst += kPanelWidth) {
      if (transposed) {
        for (size_t j = 0; j < columns; ++j) dst[j] = b[(first + j) * ldb + i];
      } else {
        std::memcpy(dst, b + i * ldb + first, columns * sizeof(float));
      }
      std::fill(dst + columns, dst + kPanelWidth, 0.0f);
    }
  }
}

Status run_gemm_f32(const GemmF32Call& call) {
  if (call.m == 0 || call.n == 0) return {};
  const size_t k = call.segments * call.segment;
  const size_t tile_rows = call.kernels->gemm_f32_rows;
  const size_t tile_columns = call.kernels->gemm_f32_panels * kPanelWidth;
  const size_t tiles = ceil_div(call.n, tile_columns);
  const double macs =
      static_cast<double>(call.m) * static_cast<double>(call.n) * static_cast<double>(k);
  const size_t limit = call.threads == 0 ? ThreadPool::instance().size() : call.threads;
  const size_t threads =
      static_cast<size_t>(std::clamp(macs / kMinMacsPerThread, 1.0, static_cast<double>(limit)));

  // Blocks of rows, and for few rows also ranges of tiles.
  const size_t row_bytes = call.row_bytes == 0 ? k * sizeof(float) : call.row_bytes;
  size_t block_rows = std::max(kBlockBytes / std::max<size_t>(row_bytes, 1), kMinBlockRows);
  block_rows = std::min(block_rows, ceil_div(call.m, threads));
  block_rows = ceil_div(block_rows, tile_rows) * tile_rows;
  const size_t blocks = ceil_div(call.m, block_rows);
  const size_t ranges = blocks >= threads ? 1 : std::min(tiles, ceil_div(threads, blocks));

  const auto run = [&](size_t index) {
    if (is_aborted(call.cancel)) return;
    const size_t row = index / ranges * block_rows;
    const size_t rows = std::min(block_rows, call.m - row);
    thread_local std::vector<const float*> source;
    if (source.size() < rows * call.segments) source.resize(rows * call.segments);
    if (call.resolve) {
      call.resolve(row, rows, source.data());
    } else {
      for (size_t r = 0; r < rows; ++r)
        source[r] = call.segment == 0 ? nullptr : call.a + (row + r) * call.lda;
    }
    // Rows are dealt out evenly: 13 rows are 5, 4 and 4 rather than 6, 6 and 1.
    const size_t strips = ceil_div(rows, tile_rows);
    const size_t first_tile = tiles * (index % ranges) / ranges;
    const size_t last_tile = tiles * (index % ranges + 1) / ranges;
    const auto multiply = [&](size_t tile, size_t strip) {
      const size_t column = tile * tile_columns;
      const size_t first = rows * strip / strips;
      FloatEpilogue epilogue = call.epilogue;
      if (epilogue.bias != nullptr) epilogue.bias += column;
      call.kernels->gemm_f32(rows * (strip + 1) / strips - first,
                             std::min(tile_columns, call.n - column), call.segments, call.segment,
                             source.data() + first * call.segments, call.b + column * k, epilogue,
                             call.c + (row + first) * call.ldc + column, call.ldc);
    };
    if ((last_tile - first_tile) * tile_columns * k * sizeof(float) <= kSmallBytes) {
      for (size_t strip = 0; strip < strips; ++strip) {
        for (size_t tile = first_tile; tile < last_tile; ++tile) multiply(tile, strip);
      }
    } else {
      for (size_t tile = first_tile; tile < last_tile; ++tile) {
        for (size_t strip = 0; strip < strips; ++strip) multiply(tile, strip);
      }
    }
  };
  ThreadPool::instance().parallel_for(blocks * ranges, threads, run);
  if (is_aborted(call.cancel)) return {Code::kAborted, "The call was aborted."};
  return {};
}

}  // namespace q8
