// SPDX-License-Identifier: MIT
/// Depthwise convolution of the ARM64 rooms, 16 channels at a time: kGroup taps are interleaved
/// byte by byte, so that the products of a channel lie beside each other. Included once by
/// kernels/<isa>/depthwise.cc after
///   Q8_TARGET   the room's namespace
///   kGroup      taps that are multiplied together
///   accumulate  (sums of 16 channels, kGroup taps of 16 channels, weight vector i -> int8x16_t)
/// are defined.
///
/// Packed weights: blocks of 16 channels, each [group of taps][16 channels][kGroup taps]. The last
/// block of a channel count that is no multiple of 16 starts at channels - 16 and repeats some
/// channels, so that nothing is masked; fewer than 16 channels are staged through a buffer.
#pragma once

#include "kernels/common/depthwise-inl.h"
#include "kernels/common/neon-epilogue-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kBlock = kPanelWidth;
constexpr size_t kGroupBytes = kBlock * kGroup;

size_t block_count(size_t channels) { return (channels + kBlock - 1) / kBlock; }

/// First channel of a block.
size_t block_start(size_t block, size_t channels) {
  const size_t first = block * kBlock;
  return channels >= kBlock && first + kBlock > channels ? channels - kBlock : first;
}

size_t depthwise_packed_bytes(size_t channels, size_t taps) {
  return block_count(channels) * ((taps + kGroup - 1) / kGroup) * kGroupBytes;
}

void pack_depthwise(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                    int32_t* channel_sum) {
  uint8_t* out = static_cast<uint8_t*>(dst);
  for (size_t block = 0; block < block_count(channels); ++block) {
    const size_t first = block_start(block, channels);
    for (size_t group = 0; group < taps; group += kGroup) {
      for (size_t c = first; c < first + kBlock; ++c) {
        for (size_t t = group; t < group + kGroup; ++t) {
          *out++ = c < channels && t < taps ? w[c * taps + t] ^ flip : uint8_t{0};
        }
      }
    }
  }
  sum_channels(channels, taps, w, flip, channel_sum);
}

/// One block of 16 channels for all pixels. kTaps is the number of taps, or 0 for args.taps.
/// kWhole: 16 bytes may be read at each tap; otherwise args.channels bytes.
template <size_t kTaps, bool kWhole, bool kZeroPoint>
void run_block(const DepthwiseArgs& args, const Epilogue& e, const int8_t* weights, size_t offset,
               uint8_t* out) {
  const size_t taps = kTaps == 0 ? args.taps : kTaps;
  const size_t out_bytes = args.out_stride * output_bytes(e.kind);
  const uint8x16_t flip = vdupq_n_u8(args.flip);
  uint8_t staged[kBlock] = {};
  for (size_t p = 0; p < args.pixels; ++p) {
    const uint8_t* const* source = args.source + p * taps;
    const auto load = [&](size_t t) {
      if (t >= taps) return vdupq_n_s8(0);
      if constexpr (kWhole)
        return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(source[t] + offset), flip));
      memcpy(staged, source[t], args.channels);
      return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(staged), flip));
    };
    int32x4_t acc[kQuads];
    int32x4_t inputs[kQuads];
    unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA { acc[q] = inputs[q] = vdupq_n_s32(0); });
    const int8_t* w = weights;
    for (size_t t = 0; t < taps; t += kGroup) {
      int8x16_t group[kGroup];
      unroll<0, kGroup>([&](auto j) Q8_INLINE_LAMBDA { group[j] = load(t + j); });
      accumulate(acc, group, [w](size_t i) Q8_INLINE_LAMBDA { return vld1q_s8(w + 16 * i); });
      if constexpr (kZeroPoint)
        accumulate(inputs, group, [](size_t) Q8_INLINE_LAMBDA { return vdupq_n_s8(1); });
      w += kGroupBytes;
    }

    if constexpr (kWhole) {
      if constexpr (kZeroPoint) {
        unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
          acc[q] = vmlsq_s32(acc[q], inputs[q], vld1q_s32(e.b_zero_point + 4 * q));
        });
      }
      store_row(e, acc, 0, kBlock, out);
    } else {
      int32_t products[kBlock];
      int32_t sums[kBlock];
      unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
        vst1q_s32(products + 4 * q, acc[q]);
        vst1q_s32(sums + 4 * q, inputs[q]);
      });
      for (size_t c = 0; c < args.channels; ++c) finish_channel(e, c, products[c], sums[c], out);
    }
    out += out_bytes;
  }
}

template <size_t kTaps, bool kWhole>
void run_blocks(const DepthwiseArgs& args) {
  const int8_t* weights = static_cast<const int8_t*>(args.weights);
  for (size_t block = 0; block < block_count(args.channels); ++block) {
    const size_t first = block_start(block, args.channels);
    const Epilogue e = advance(args.epilogue, first);
    uint8_t* out = static_cast<uint8_t*>(args.out) + first * output_bytes(e.kind);
    if (e.b_zero_point == nullptr) {
      run_block<kTaps, kWhole, false>(args, e, weights, first, out);
    } else {
      run_block<kTaps, kWhole, true>(args, e, weights, first, out);
    }
    weights += (args.taps + kGroup - 1) / kGroup * kGroupBytes;
  }
}

void depthwise(const DepthwiseArgs& args) {
  if (args.channels < kBlock) return run_blocks<0, false>(args);
  switch (args.taps) {
    case 9:
      return run_blocks<9, true>(args);
    case 25:
      return run_blocks<25, true>(args);
    default:
      return run_blocks<0, true>(args);
  }
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
