// SPDX-License-Identifier: MIT
/// Depthwise convolution of the ARM64 rooms, 16 channels at a time: kGroup taps are interleaved
/// byte by byte, so that the products of a channel lie beside each other. Included once by
/// kernels/<isa>/depthwise.cc after Q8_TARGET and, in the room's namespace,
///
///   kGroup, Weight   see depthwise-blocks-inl.h
///   void interleave(const int8x16_t (&taps)[kGroup], int8x16_t (&operand)[kGroup])
///   void multiply_add(int32x4_t (&sums)[kQuads], const int8x16_t (&operand)[kGroup], weights)
///                    weights(i): int8x16_t of weights for operand i
///
/// The last block of a channel count that is no multiple of 16 starts at channels - 16 and repeats
/// some channels, so that nothing is masked; fewer than 16 channels are staged through a buffer.
#pragma once

#include "kernels/common/depthwise-inl.h"
#include "kernels/common/neon-epilogue-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kLanes = 4;

template <typename Visit>
void for_blocks(size_t channels, const Visit& visit) {
  if (channels < kPanelWidth) {
    if (channels != 0) visit(Index<kQuads>{}, size_t{0}, channels);
    return;
  }
  size_t first = 0;
  for (; first + kPanelWidth <= channels; first += kPanelWidth)
    visit(Index<kQuads>{}, first, kPanelWidth);
  if (first < channels) visit(Index<kQuads>{}, channels - kPanelWidth, kPanelWidth);
}

template <size_t kBlockVectors, bool kWhole, bool kFlip, bool /*kCodes*/>
class Block {
 public:
  static constexpr size_t kVectors = kBlockVectors;
  static_assert(kVectors == kQuads);

  struct Sums {
    int32x4_t q[kQuads];
  };
  using Raw = int8x16_t;
  struct Operand {
    int8x16_t v[kGroup];
  };

  Block(const Epilogue& e, size_t live, uint8_t flip)
      : epilogue_(e), live_(live), flip_(vdupq_n_u8(flip)) {}

  Q8_ALWAYS_INLINE Raw load(const uint8_t* p) const {
    uint8x16_t bytes;
    if constexpr (kWhole) {
      bytes = vld1q_u8(p);
    } else {
      uint8_t staged[kPanelWidth] = {};
      memcpy(staged, p, live_);
      bytes = vld1q_u8(staged);
    }
    if constexpr (kFlip) bytes = veorq_u8(bytes, flip_);
    return vreinterpretq_s8_u8(bytes);
  }
  static Q8_ALWAYS_INLINE Raw absent() { return vdupq_n_s8(0); }

  static Q8_ALWAYS_INLINE Operand interleave(const Raw (&taps)[kGroup]) {
    Operand operand;
    Q8_TARGET::interleave(taps, operand.v);
    return operand;
  }

  /// The epilogue adds the bias.
  Q8_ALWAYS_INLINE Sums start() const { return zero(); }
  static Q8_ALWAYS_INLINE Sums zero() {
    Sums sums;
    unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA { sums.q[q] = vdupq_n_s32(0); });
    return sums;
  }

  static Q8_ALWAYS_INLINE void multiply_add(Sums& sums, const Operand& operand,
                                            const uint8_t* weights) {
    const int8_t* w = reinterpret_cast<const int8_t*>(weights);
    Q8_TARGET::multiply_add(sums.q, operand.v,
                            [w](size_t i) Q8_INLINE_LAMBDA { return vld1q_s8(w + 16 * i); });
  }
  static Q8_ALWAYS_INLINE void add_inputs(Sums& inputs, const Operand& operand) {
    Q8_TARGET::multiply_add(inputs.q, operand.v,
                            [](size_t) Q8_INLINE_LAMBDA { return vdupq_n_s8(1); });
  }
  Q8_ALWAYS_INLINE void subtract_inputs(Sums& sums, const Sums& inputs) const {
    unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
      const int32x4_t zero_point = vld1q_s32(epilogue_.b_zero_point + 4 * q);
      sums.q[q] = vmlsq_s32(sums.q[q], inputs.q[q], zero_point);
    });
  }

  Q8_ALWAYS_INLINE void finish(const Sums& sums, void* out) const {
    store_row(epilogue_, sums.q, 0, kWhole ? kPanelWidth : live_, out);
  }

 private:
  Epilogue epilogue_;
  size_t live_;
  uint8x16_t flip_;
};

template <size_t kVectors>
using PlainBlock = Block<kVectors, true, false, true>;

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

#include "kernels/common/depthwise-blocks-inl.h"
