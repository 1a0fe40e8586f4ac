// SPDX-License-Identifier: MIT
/// Convolution weights in the layout of one ISA, made once per model: independent of scales, of the
/// input's zero point and of the image's size. The K order of a GEMM is (ky, kx, ic), as NHWC gives
/// the pixels of a window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/status.h"
#include "gemm/gemm.h"
#include "kernels/kernel_table.h"
#include "ops/float_gemm.h"

namespace q8 {

/// Dimensions of OIHW weights.
struct ConvDims {
  size_t out_channels = 0;
  /// Input channels of one group.
  size_t group_channels = 0;
  size_t kernel_height = 0;
  size_t kernel_width = 0;
  size_t group = 1;

  size_t taps() const { return kernel_height * kernel_width; }
  /// K of a group's GEMM.
  size_t depth() const { return taps() * group_channels; }
  size_t group_outputs() const { return out_channels / group; }
  bool depthwise() const { return group_channels == 1 && out_channels == group; }
};

/// 8-bit weights: a PackedB per group, or the depthwise layout.
class PackedConv {
 public:
  /// w: out_channels * depth() codes, OIHW. zero_point: 1 or out_channels codes of w's type, or
  /// none.
  static Status pack(const KernelTable& table, const uint8_t* w, bool is_signed,
                     const ConvDims& dims, const int32_t* zero_point, size_t zero_point_count,
                     PackedConv* out);

  const ConvDims& dims() const { return dims_; }
  const KernelTable& table() const { return *table_; }
  size_t bytes() const;
  /// The weights of a group; not for depthwise.
  const PackedB& group(size_t index) const { return groups_[index]; }
  /// What multiplies rows of an image whose runs, row_elements() long, are rows of the kernel: for
  /// few channels, each filled with zeros, so that the tiles can read them in place (reads_runs()),
  /// or, if the kernels have pack_runs, as they are. Null where there is neither.
  const PackedB* rows() const {
    return packs_runs_ ? groups_.data() : rows_.k() == 0 ? nullptr : &rows_;
  }
  size_t row_elements() const { return rows()->k() / dims_.kernel_height; }

  const void* depthwise_weights() const { return depthwise_.data(); }
  /// Canonical zero points per channel, padded to 16, or null when all are 0.
  const int32_t* depthwise_zero_point() const {
    return zero_point_.empty() ? nullptr : zero_point_.data();
  }
  /// The depthwise counterpart of fold_bias(): user bias - za * sum(w) + taps * za * zb, padded to
  /// 16 channels.
  std::vector<int32_t> fold_depthwise_bias(int32_t x_zero_point, bool x_signed,
                                           const int32_t* bias) const;

 private:
  Status pack_rows(const uint8_t* w, bool is_signed, const int32_t* zero_point,
                   size_t zero_point_count);
  Status pack_depthwise(const uint8_t* w, bool is_signed, const int32_t* zero_point,
                        size_t zero_point_count);

  const KernelTable* table_ = nullptr;
  ConvDims dims_;
  std::vector<PackedB> groups_;
  PackedB rows_;
  bool packs_runs_ = false;
  AlignedBuffer depthwise_;
  std::vector<int32_t> channel_sum_;
  std::vector<int32_t> zero_point_;
};

/// float32 weights: a PackedBF32 per group, or [taps][channels] for depthwise.
class PackedConvF32 {
 public:
  static Status pack(const float* w, const ConvDims& dims, PackedConvF32* out);

  const ConvDims& dims() const { return dims_; }
  size_t bytes() const;
  const PackedBF32& group(size_t index) const { return groups_[index]; }
  const float* depthwise_weights() const { return depthwise_.data(); }

 private:
  ConvDims dims_;
  std::vector<PackedBF32> groups_;
  std::vector<float> depthwise_;
};

}  // namespace q8
