// SPDX-License-Identifier: MIT
/// The GEMM driver: packing of B, folding of zero points, blocking, choice of tile, threads. Used
/// by qgemm() and by the program executor; conv/ uses it through RowSource. No JavaScript here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/status.h"
#include "kernels/kernel_table.h"

namespace q8 {

/// Memory of packed weights.
struct PackedBytes {
  const int8_t* data = nullptr;
  size_t size = 0;
};

/// Weights in the layout of one ISA, in the form that suits them: bounded weights (see
/// kernels/gemm_kernels.h) where the ISA is faster on them. Immutable after pack().
class PackedB {
 public:
  /// b is K x N row-major with `ldb` elements between rows (N x K when transposed). b_signed tells
  /// the source's type. zero_point: 1 or n codes of that type, or none (0). Panels are packed by up
  /// to `threads` threads (0 = all). What `out` held is lost, also when this fails, and its memory
  /// is used again: packing a matrix of the same size allocates nothing.
  static Status pack(const KernelTable& table, const void* b, bool b_signed, size_t k, size_t n,
                     size_t ldb, bool transposed, const int32_t* zero_point,
                     size_t zero_point_count, PackedB* out, size_t threads = 1);

  size_t k() const { return k_; }
  size_t n() const { return n_; }
  size_t padded_n() const { return (n_ + kPanelWidth - 1) / kPanelWidth * kPanelWidth; }
  size_t panel_stride() const { return panel_stride_; }
  /// Panels from `index` on.
  TileB panels(size_t index) const {
    return {reinterpret_cast<const int8_t*>(data_.data()) + index * panel_stride_, panel_stride_,
            fixes_.empty() ? nullptr : fixes_.data() + index};
  }
  /// Sums of canonical values, padded_n() of them.
  const int32_t* column_sum() const { return column_sum_.data(); }
  /// Canonical zero points per column (padded_n() of them), or null when all are 0.
  const int32_t* zero_point() const { return zero_point_.empty() ? nullptr : zero_point_.data(); }
  size_t bytes() const { return data_.size() + fix_rows_.size(); }
  PackedBytes packed() const {
    return {reinterpret_cast<const int8_t*>(data_.data()), data_.size()};
  }
  const KernelTable& table() const { return *table_; }
  /// What multiplies these weights and A of that signedness: table().gemm or table().gemm_bounded,
  /// or what these have for such a K.
  const GemmKernels& kernels(bool a_signed = false) const { return kernels_->for_a(a_signed); }
  /// Share of rows that a PanelFix adds.
  double fix_share() const;

 private:
  struct Source;
  Status pack_panels(const Source& source, size_t threads, bool* fits);
  Status split_unbounded();

  const KernelTable* table_ = nullptr;
  const GemmKernels* kernels_ = nullptr;
  size_t k_ = 0;
  size_t n_ = 0;
  size_t panel_stride_ = 0;
  AlignedBuffer data_;
  /// By panel; empty when no panel has any.
  std::vector<PanelFix> fixes_;
  std::vector<uint32_t> fix_steps_;
  AlignedBuffer fix_rows_;
  std::vector<int32_t> column_sum_;
  std::vector<int32_t> zero_point_;
};

/// The int32 bias per column that the kernel adds: user bias - za*colsum + K*za*zb with canonical
/// za, zb. `a_zero_point` is the code as the user gave it, of type a_signed. Writes b.padded_n()
/// values.
void fold_bias(const PackedB& b, int32_t a_zero_point, bool a_signed, const int32_t* bias,
               int32_t* folded);

/// Whether Epilogue::scales_below_one holds for these.
bool are_below_one(const float* scales, size_t count);

/// Where rows of A come from.
struct RowSource {
  /// Plain matrix: first element and bytes between rows; used when `table` is null.
  const uint8_t* data = nullptr;
  size_t row_bytes = 0;
  /// Indirect (convolution): row r is the concatenation of `segments` runs of `segment_bytes` at
  /// table[r * segments + s]; segments * segment_bytes is K.
  const uint8_t* const* table = nullptr;
  size_t segments = 1;
  size_t segment_bytes = 0;
  /// If not 0, rows of `data` are runs as well, so many bytes apart; see reads_runs(). Each run
  /// goes on for a line of the cache at least, if only with bytes that do not count.
  size_t run_stride = 0;
  /// With run_stride: elements of a run that count; the others meet weights that are canonically 0.
  size_t counted = 0;
  /// Whether the codes are signed.
  bool is_signed = false;
  /// The table points at elements as b's kernels read them, which reads_segments() allows;
  /// is_signed has no meaning then, and segment_bytes still counts one byte for each.
  bool is_canonical = false;
  /// If not null, a plain matrix of floats instead of `data`, quantized to u8 as its rows are
  /// needed; row r with params[r * params_step].
  const float* floats = nullptr;
  const QuantizeParams* params = nullptr;
  size_t params_step = 0;
};

struct GemmCall {
  size_t m = 0;
  RowSource a;
  const PackedB* b = nullptr;
  /// Column arrays cover padded_n(); `bias` is the folded one; row_sum and b_zero_point are filled
  /// in by the driver.
  Epilogue epilogue;
  void* c = nullptr;
  /// Elements between rows of C.
  size_t ldc = 0;
  /// What this thread will read after the call, such as the weights of the next layer, for the
  /// cache; may be empty.
  PackedBytes next;
  /// Of b's kernels, for callers with many small products alike; null = the driver chooses.
  const GemmTile* tile = nullptr;
  /// 0 = all threads of the pool.
  size_t threads = 0;
  /// Polled per block; when it becomes non-zero the call returns early with kAborted. May be null.
  const int32_t* cancel = nullptr;
};

Status run_gemm(const GemmCall& call);

/// Whether products with b can take rows of A as segments of this many canonical elements without
/// packing them.
bool reads_segments(const PackedB& b, size_t segment);

/// Whether products with b can take rows of canonical A as runs of this many elements in place.
/// Where they cannot, kernels with pack_runs take runs of any length.
inline bool reads_runs(const PackedB& b, size_t segment) {
  const GemmKernels& kernels = b.kernels();
  return kernels.a_in_place && kernels.k_multiple == 0 && segment % kernels.kr == 0;
}

}  // namespace q8
