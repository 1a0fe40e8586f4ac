// SPDX-License-Identifier: MIT
/// Depthwise convolution part of the kernel table. Other convolutions are implicit GEMMs (conv/) on
/// GemmKernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gemm_kernels.h"

namespace q8 {

/// Rows of output pixels of a depthwise convolution (one multiplier per channel). The taps are
/// given column by column, because neighbouring pixels share columns.
struct DepthwiseArgs {
  size_t rows;
  size_t pixels;
  size_t channels;
  size_t kernel_height;
  size_t kernel_width;
  /// Columns from a pixel to the next; kernel_width or more where they share none.
  size_t step;
  /// source[(r * columns + p * step + x) * kernel_height + y]: channel 0 of tap (y, x) of pixel p
  /// of row r (a row of zero points where the tap is padding); columns = (pixels - 1) * step +
  /// kernel_width. Exactly `channels` bytes are read at each.
  const uint8_t* const* source;
  /// Xored into every input byte (0 or 0x80) to make it canonical.
  uint8_t flip;
  /// From pack_depthwise.
  const void* weights;
  /// Column = channel. b_zero_point is honoured with the sum over the pixel's taps, which the
  /// kernel computes itself: row_sum is ignored.
  Epilogue epilogue;
  void* out;
  /// Elements between output pixels, and between output rows.
  size_t out_stride;
  size_t out_row_stride;
};

struct ConvKernels {
  /// Bytes of packed weights.
  size_t (*depthwise_packed_bytes)(size_t channels, size_t kernel_height, size_t kernel_width);
  /// w[(c * kernel_height + y) * kernel_width + x] (ONNX order), xored with `flip`; writes channel
  /// sums of canonical weights for round_up(C, 16) channels.
  void (*pack_depthwise)(size_t channels, size_t kernel_height, size_t kernel_width,
                         const uint8_t* w, uint8_t flip, void* dst, int32_t* channel_sum);
  void (*depthwise)(const DepthwiseArgs& args);
};

}  // namespace q8
