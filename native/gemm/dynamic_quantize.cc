// SPDX-License-Identifier: MIT
#include "gemm/dynamic_quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace q8 {

void FloatRange::include(const VectorKernels& kernels, const float* x, size_t n) {
  if (n == 0) return;
  low = std::min(low, kernels.reduce(ReduceKind::kMin, n, x));
  high = std::max(high, kernels.reduce(ReduceKind::kMax, n, x));
}

QuantizeParams dynamic_params(const FloatRange& range) {
  const float width = range.high - range.low;
  const float scale = range.high == range.low ? 1.0f : width / 255.0f;
  const float zero = 0.0f - range.low / scale;
  // Not a number, for infinite ranges, becomes 0.
  const float bounded = zero > 0 ? std::min(zero, 255.0f) : 0.0f;
  const int32_t zero_point = static_cast<int32_t>(std::nearbyint(bounded));
  return {scale, static_cast<float>(-zero_point), static_cast<float>(255 - zero_point), zero_point};
}

void dequantize_row(size_t n, float a_scale, int32_t a_zero_point, const int32_t* b_sum,
                    const float* b_scale, const float* bias, void* row) {
  const uint32_t zero_point = static_cast<uint32_t>(a_zero_point);
  uint8_t* const bytes = static_cast<uint8_t*>(row);
  for (size_t i = 0; i < n; ++i) {
    uint32_t acc;
    std::memcpy(&acc, bytes + i * sizeof(acc), sizeof(acc));
    acc -= zero_point * static_cast<uint32_t>(b_sum[i]);
    const float scale = a_scale * b_scale[i];
    float y = static_cast<float>(static_cast<int32_t>(acc)) * scale;
    if (bias != nullptr) y += bias[i];
    std::memcpy(bytes + i * sizeof(y), &y, sizeof(y));
  }
}

}  // namespace q8
