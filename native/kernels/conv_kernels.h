// SPDX-License-Identifier: MIT
/// Depthwise convolution part of the kernel table. Other convolutions are implicit GEMMs (conv/) on
/// GemmKernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gemm_kernels.h"

namespace q8 {

/// A run of output pixels of a depthwise convolution (one multiplier per channel).
struct DepthwiseArgs {
  size_t pixels;
  size_t channels;
  /// Taps of the window (kernel height x width).
  size_t taps;
  /// source[p * taps + t]: channel 0 of tap t for pixel p (a row of zero points where the tap is
  /// padding). Exactly `channels` bytes are read at each.
  const uint8_t* const* source;
  /// Xored into every input byte (0 or 0x80) to make it canonical.
  uint8_t flip;
  /// From pack_depthwise.
  const void* weights;
  /// Column = channel. b_zero_point is honoured with the sum over the pixel's taps, which the
  /// kernel computes itself: row_sum is ignored.
  Epilogue epilogue;
  void* out;
  /// Elements between output pixels.
  size_t out_stride;
};

struct ConvKernels {
  /// Bytes of packed weights.
  size_t (*depthwise_packed_bytes)(size_t channels, size_t taps);
  /// w[c * taps + t] (ONNX order), xored with `flip`; writes channel sums of canonical weights for
  /// round_up(C, 16) channels.
  void (*pack_depthwise)(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                         int32_t* channel_sum);
  void (*depthwise)(const DepthwiseArgs& args);
};

}  // namespace q8
