// SPDX-License-Identifier: MIT
/// float32 GEMM driver: packed B and the walk over tiles. Each result is a chain of fused
/// multiply-adds over k in order, so it has the same bits on every ISA and thread count.
#pragma once

#include <cstddef>
#include <functional>

#include "core/aligned_buffer.h"
#include "core/status.h"
#include "kernels/kernel_table.h"

namespace q8 {

/// B in panels of 16 columns, each k rows of 16 floats; missing columns are 0. The layout is the
/// same for every ISA.
class PackedBF32 {
 public:
  /// b is K x N row-major (N x K when transposed), dense.
  static Status pack(const float* b, size_t k, size_t n, bool transposed, PackedBF32* out);
  static size_t packed_floats(size_t k, size_t n) {
    return (n + kPanelWidth - 1) / kPanelWidth * kPanelWidth * k;
  }
  /// Packs into memory of packed_floats(k, n). `ldb` elements lie between rows of b.
  static void pack_into(const float* b, size_t k, size_t n, size_t ldb, bool transposed,
                        float* dst);

  size_t k() const { return k_; }
  size_t n() const { return n_; }
  size_t bytes() const { return data_.size(); }
  const float* data() const { return reinterpret_cast<const float*>(data_.data()); }

 private:
  size_t k_ = 0;
  size_t n_ = 0;
  AlignedBuffer data_;
};

struct GemmF32Call {
  const VectorKernels* kernels = nullptr;
  size_t m = 0;
  size_t n = 0;
  /// K in runs of floats: k = segments * segment.
  size_t segments = 1;
  size_t segment = 0;
  /// Packed panels.
  const float* b = nullptr;
  FloatEpilogue epilogue = {};
  float* c = nullptr;
  size_t ldc = 0;
  size_t threads = 0;
  const int32_t* cancel = nullptr;
  /// A: row-major with `lda` elements between rows (and one segment), or the segments that
  /// resolve(first, count, source) points at, source[r * segments + s], if it is set. It is called
  /// for the rows of a block; what it points at must live until it is called again by the thread.
  const float* a = nullptr;
  size_t lda = 0;
  std::function<void(size_t first, size_t count, const float** source)> resolve;
  /// Bytes that another row of A adds to what a block of rows reads; 0 for those of K.
  size_t row_bytes = 0;
};

Status run_gemm_f32(const GemmF32Call& call);

}  // namespace q8
