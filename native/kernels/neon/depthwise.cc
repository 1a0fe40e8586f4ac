// SPDX-License-Identifier: MIT
/// Depthwise convolution for ARMv8.0: two taps at a time by SMULL and SADALP. Per pair of taps and
/// 16 channels: 2 ZIP, 4 products with weights from memory, 4 accumulations.
#define Q8_TARGET neon
#include <arm_neon.h>

#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neon {
namespace {

constexpr size_t kGroup = 2;
using Weight = int8_t;

inline void interleave(const int8x16_t (&taps)[kGroup], int8x16_t (&operand)[kGroup]) {
  operand[0] = vzip1q_s8(taps[0], taps[1]);
  operand[1] = vzip2q_s8(taps[0], taps[1]);
}

template <typename Weights>
Q8_ALWAYS_INLINE void multiply_add(int32x4_t (&sums)[kQuads], const int8x16_t (&operand)[kGroup],
                                   const Weights& weights) {
  unroll<0, 2>([&](auto half) Q8_INLINE_LAMBDA {
    const int8x16_t w = weights(half);
    int32x4_t* const quad = sums + 2 * half;
    quad[0] = vpadalq_s16(quad[0], vmull_s8(vget_low_s8(operand[half]), vget_low_s8(w)));
    quad[1] = vpadalq_s16(quad[1], vmull_high_s8(operand[half], w));
  });
}

}  // namespace
}  // namespace q8::neon

#include "kernels/common/neon-depthwise-inl.h"

namespace q8::neon {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::neon
