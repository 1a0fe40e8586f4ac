// SPDX-License-Identifier: MIT
/// Dynamic quantization of A: float rows to u8 codes by their own range, and the way back for
/// products whose rows have scales of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/vector_kernels.h"

namespace q8 {

/// The range of some floats, 0 included.
struct FloatRange {
  float low = 0;
  float high = 0;

  /// Widens to n more floats.
  void include(const VectorKernels& kernels, const float* x, size_t n);
};

/// Scale and zero point of u8 codes for a range, as DynamicQuantizeLinear has them:
/// scale = (high - low) / 255 (1 for an empty range), zero point = round(-low / scale).
QuantizeParams dynamic_params(const FloatRange& range);

/// One row of float results from int32 accumulators, in place (`row` holds n int32 and receives n
/// floats): y[n] = float(acc - a_zero_point * b_sum[n]) * (a_scale * b_scale[n]) + bias[n], rounded
/// after each operation. The subtraction wraps. bias may be null.
void dequantize_row(size_t n, float a_scale, int32_t a_zero_point, const int32_t* b_sum,
                    const float* b_scale, const float* bias, void* row);

}  // namespace q8
