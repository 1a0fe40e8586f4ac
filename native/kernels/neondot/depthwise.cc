// SPDX-License-Identifier: MIT
/// Depthwise convolution with the dot product: four taps at a time. Per four taps and 16 channels:
/// 8 ZIP, 4 SDOT with weights from memory.
#define Q8_TARGET neondot
#include <arm_neon.h>

#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neondot {
namespace {

constexpr size_t kGroup = 4;
using Weight = int8_t;

inline void interleave(const int8x16_t (&taps)[kGroup], int8x16_t (&operand)[kGroup]) {
  const auto as_pairs = [](int8x16_t bytes) { return vreinterpretq_s16_s8(bytes); };
  const auto as_bytes = [](int16x8_t pairs) { return vreinterpretq_s8_s16(pairs); };
  const int16x8_t low01 = as_pairs(vzip1q_s8(taps[0], taps[1]));
  const int16x8_t high01 = as_pairs(vzip2q_s8(taps[0], taps[1]));
  const int16x8_t low23 = as_pairs(vzip1q_s8(taps[2], taps[3]));
  const int16x8_t high23 = as_pairs(vzip2q_s8(taps[2], taps[3]));
  operand[0] = as_bytes(vzip1q_s16(low01, low23));
  operand[1] = as_bytes(vzip2q_s16(low01, low23));
  operand[2] = as_bytes(vzip1q_s16(high01, high23));
  operand[3] = as_bytes(vzip2q_s16(high01, high23));
}

template <typename Weights>
Q8_ALWAYS_INLINE void multiply_add(int32x4_t (&sums)[kQuads], const int8x16_t (&operand)[kGroup],
                                   const Weights& weights) {
  unroll<0, kQuads>([&](auto q)
                        Q8_INLINE_LAMBDA { sums[q] = vdotq_s32(sums[q], operand[q], weights(q)); });
}

}  // namespace
}  // namespace q8::neondot

#include "kernels/common/neon-depthwise-inl.h"

namespace q8::neondot {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::neondot
