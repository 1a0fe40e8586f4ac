// SPDX-License-Identifier: MIT
/// Depthwise convolution with the dot product: four taps at a time. Per four taps and 16 channels:
/// 4 loads and 4 flips, 8 ZIP, 4 SDOT with weights from memory.
#define Q8_TARGET neondot
#include <arm_neon.h>

#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neondot {
namespace {

constexpr size_t kGroup = 4;

template <typename Weights>
Q8_ALWAYS_INLINE void accumulate(int32x4_t (&acc)[kQuads], const int8x16_t (&taps)[kGroup],
                                 const Weights& weights) {
  const auto as_pairs = [](int8x16_t bytes) { return vreinterpretq_s16_s8(bytes); };
  const auto as_bytes = [](int16x8_t pairs) { return vreinterpretq_s8_s16(pairs); };
  const int16x8_t low01 = as_pairs(vzip1q_s8(taps[0], taps[1]));
  const int16x8_t high01 = as_pairs(vzip2q_s8(taps[0], taps[1]));
  const int16x8_t low23 = as_pairs(vzip1q_s8(taps[2], taps[3]));
  const int16x8_t high23 = as_pairs(vzip2q_s8(taps[2], taps[3]));
  acc[0] = vdotq_s32(acc[0], as_bytes(vzip1q_s16(low01, low23)), weights(0));
  acc[1] = vdotq_s32(acc[1], as_bytes(vzip2q_s16(low01, low23)), weights(1));
  acc[2] = vdotq_s32(acc[2], as_bytes(vzip1q_s16(high01, high23)), weights(2));
  acc[3] = vdotq_s32(acc[3], as_bytes(vzip2q_s16(high01, high23)), weights(3));
}

}  // namespace
}  // namespace q8::neondot

#include "kernels/common/neon-depthwise-inl.h"

namespace q8::neondot {

extern const ConvKernels kConv = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace q8::neondot
