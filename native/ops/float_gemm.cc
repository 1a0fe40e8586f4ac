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
  const size_t tile_rows = call.kernels->gemm_f32_rows;
  const size_t panels = ceil_div(call.n, kPanelWidth);
  const double macs =
      static_cast<double>(call.m) * static_cast<double>(call.n) * static_cast<double>(call.k);
  const size_t limit = call.threads == 0 ? ThreadPool::instance().size() : call.threads;
  const size_t threads =
      static_cast<size_t>(std::clamp(macs / kMinMacsPerThread, 1.0, static_cast<double>(limit)));

  // Blocks of rows, and for few rows also ranges of panels.
  size_t block_rows =
      std::max<size_t>(1, kBlockBytes / sizeof(float) / std::max<size_t>(call.k, 1));
  block_rows = std::min(block_rows, ceil_div(call.m, threads));
  block_rows = std::max(tile_rows, block_rows / tile_rows * tile_rows);
  const size_t blocks = ceil_div(call.m, block_rows);
  const size_t ranges = blocks >= threads ? 1 : std::min(panels, ceil_div(threads, blocks));

  const auto run = [&](size_t index) {
    if (is_aborted(call.cancel)) return;
    const size_t row = index / ranges * block_rows;
    const size_t rows = std::min(block_rows, call.m - row);
    const size_t first_panel = panels * (index % ranges) / ranges;
    const size_t last_panel = panels * (index % ranges + 1) / ranges;
    const float* a = call.a;
    size_t lda = call.lda;
    if (call.gather) {
      thread_local std::vector<float> gathered;
      if (gathered.size() < rows * call.k) gathered.resize(rows * call.k);
      call.gather(row, rows, gathered.data());
      a = gathered.data();
      lda = call.k;
    } else if (call.k != 0) {
      a += row * lda;
    }
    for (size_t panel = first_panel; panel < last_panel; ++panel) {
      const size_t column = panel * kPanelWidth;
      const size_t columns = std::min(kPanelWidth, call.n - column);
      for (size_t r = 0; r < rows; r += tile_rows) {
        call.kernels->gemm_f32(std::min(tile_rows, rows - r), columns, call.k, a + r * lda, lda,
                               call.b + column * call.k,
                               call.bias == nullptr ? nullptr : call.bias + column, call.lo,
                               call.hi, call.c + (row + r) * call.ldc + column, call.ldc);
      }
    }
  };
  ThreadPool::instance().parallel_for(blocks * ranges, threads, run);
  if (is_aborted(call.cancel)) return {Code::kAborted, "The call was aborted."};
  return {};
}

}  // namespace q8
