// SPDX-License-Identifier: MIT
/// Pieces of depthwise convolution that every room shares: the scalar finish of one channel, and
/// reading a few bytes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/conv_kernels.h"

namespace q8 {
namespace {

/// Finishes channel `c` of a pixel from its sum of products and its sum of canonical inputs, and
/// stores it.
inline void finish_channel(const Epilogue& e, size_t c, int32_t products, int32_t inputs,
                           void* out) {
  uint32_t acc = static_cast<uint32_t>(products) + static_cast<uint32_t>(e.bias[c]);
  if (e.b_zero_point != nullptr)
    acc -= static_cast<uint32_t>(e.b_zero_point[c]) * static_cast<uint32_t>(inputs);
  const int32_t value = static_cast<int32_t>(acc);
  if (e.kind == OutKind::kS32) {
    static_cast<int32_t*>(out)[c] = value;
    return;
  }
  const float scaled = static_cast<float>(value) * e.scale[c];
  if (e.kind == OutKind::kF32) {
    static_cast<float*>(out)[c] = e.float_bias == nullptr ? scaled : scaled + e.float_bias[c];
    return;
  }
  const float raised = scaled > e.lo ? scaled : e.lo;
  const float bounded = raised < e.hi ? raised : e.hi;
  // Adding 1.5 * 2^23 leaves no fraction bits: ties to even for |x| <= 2^22.
  const int32_t rounded = static_cast<int32_t>((bounded + 12582912.0f) - 12582912.0f);
  static_cast<uint8_t*>(out)[c] = static_cast<uint8_t>(rounded + e.zero_point);
}

inline size_t output_bytes(OutKind kind) {
  return kind == OutKind::kU8 || kind == OutKind::kS8 ? 1 : 4;
}

/// The epilogue of a kernel call that starts `channels` further.
inline Epilogue advance(const Epilogue& epilogue, size_t channels) {
  Epilogue e = epilogue;
  e.bias += channels;
  if (e.b_zero_point != nullptr) e.b_zero_point += channels;
  if (e.scale != nullptr) e.scale += channels;
  if (e.float_bias != nullptr) e.float_bias += channels;
  return e;
}

/// Sums of canonical (signed) weights per channel; zero for channels that only fill up the last 16.
inline void sum_channels(size_t channels, size_t taps, const uint8_t* w, uint8_t flip,
                         int32_t* channel_sum) {
  const size_t padded = (channels + 15) / 16 * 16;
  for (size_t c = 0; c < padded; ++c) {
    int32_t sum = 0;
    if (c < channels) {
      for (size_t t = 0; t < taps; ++t) sum += static_cast<int8_t>(w[c * taps + t] ^ flip);
    }
    channel_sum[c] = sum;
  }
}

}  // namespace
}  // namespace q8
