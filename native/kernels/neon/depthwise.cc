// SPDX-License-Identifier: MIT
/// Depthwise convolution for ARMv8.0: two taps at a time by SMULL and SADALP. Per pair of taps and
/// 16 channels: 2 loads and 2 flips, 2 ZIP, 4 products with weights from memory, 4 accumulations.
#define Q8_TARGET neon
#include <arm_neon.h>

#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neon {
namespace {

constexpr size_t kGroup = 2;

template <typename Weights>
Q8_ALWAYS_INLINE void accumulate(int32x4_t (&acc)[kQuads], const int8x16_t (&taps)[kGroup],
                                 const Weights& weights) {
  const int8x16_t pairs[2] = {vzip1q_s8(taps[0], taps[1]), vzip2q_s8(taps[0], taps[1])};
  unroll<0, 2>([&](auto half) Q8_INLINE_LAMBDA {
    const int8x16_t w = weights(half);
    acc[2 * half] = vpadalq_s16(acc[2 * half], vmull_s8(vget_low_s8(pairs[half]), vget_low_s8(w)));
    acc[2 * half + 1] = vpadalq_s16(acc[2 * half + 1], vmull_high_s8(pairs[half], w));
  });
}

}  // namespace
}  // namespace q8::neon

#include "kernels/common/neon-depthwise-inl.h"

namespace q8::neon {

extern const ConvKernels kConv = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace q8::neon
