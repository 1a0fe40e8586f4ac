// SPDX-License-Identifier: MIT
/// Depthwise convolution on vectors, the same for every room: blocks of channels, groups of taps,
/// windows that roll. Included once by kernels/common/<width>-depthwise-inl.h, after Q8_TARGET and
/// in the room's namespace
///
///   kGroup                 taps that a multiply-add sums in a 32-bit lane
///   Weight                 type of a packed weight
///   kLanes                 32-bit lanes of a vector
///   for_blocks(channels, visit)
///                          visit(Index<vectors>, first channel, channels in use): how channels are
///                          divided into blocks of vectors * kLanes
///   Block<vectors, whole, flip, codes>
///                          the vector code of a block, see below
///   PlainBlock<vectors>    Block<vectors, true, false, true>, or what is faster where the
///                          epilogue is Rounding::kPlain
///
/// A Block is constructed from (Epilogue of its first channel, channels in use, flip byte) and has
///   Raw                    one tap of all channels
///   Operand                kGroup taps, interleaved: what a multiply-add takes
///   Sums                   int32 of all channels
///   load(p), absent()      a tap; zeros in place of one
///   interleave(Raw[kGroup])
///   start()                Sums before the first product, zero() those of inputs
///   multiply_add(Sums&, Operand, weights of the group)
///   add_inputs(Sums&, Operand)
///   subtract_inputs(Sums&, Sums of inputs)   times the zero points of the weights
///   finish(Sums, out)      the epilogue
/// `whole` says that all channels of the block exist, `flip` that the flip byte may be other than
/// 0, `codes` that results are 8-bit: one kind of results leaves the loops more registers.
///
/// Element i of vector v of Sums and of packed weights is channel_of<vectors>(v, i): the order in
/// which unpacks leave channels within 128-bit lanes.
///
/// Packed weights: for each block [group][vector][lane][kGroup taps].
#pragma once

#include "kernels/common/depthwise-inl.h"
#include "kernels/common/rounding-inl.h"
#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

template <size_t kVectors>
constexpr size_t channel_of(size_t vector, size_t lane) {
  return lane / 4 * (4 * kVectors) + vector * 4 + lane % 4;
}

template <size_t kVectors>
constexpr size_t group_bytes() {
  return kVectors * kLanes * kGroup * sizeof(Weight);
}

/// Which taps a group holds. Square windows of 3 and 5 roll: a column of taps is loaded once and
/// used by all pixels that it touches. Their groups lie within a column, from top to bottom; if
/// that leaves a row alone where groups hold two taps, its taps pair up along the row: (none, 0),
/// (1, 2), ... Other windows are lists of taps.
class Groups {
 public:
  Groups(size_t kernel_height, size_t kernel_width)
      : height_(kernel_height),
        taps_(kernel_height * kernel_width),
        rolls_(kernel_height == kernel_width && (kernel_height == 3 || kernel_height == 5)) {}

  bool roll() const { return rolls_; }
  size_t taps() const { return taps_; }

  size_t count() const {
    if (!rolls_) return (taps_ + kGroup - 1) / kGroup;
    return height_ * of_column(height_) + (pairs_last_row(height_) ? (height_ + 1) / 2 : 0);
  }

  /// Tap i of a group, counted column by column; taps() where there is none.
  size_t tap(size_t group, size_t i) const {
    if (!rolls_) return group * kGroup + i < taps_ ? group * kGroup + i : taps_;
    const size_t vertical = height_ * of_column(height_);
    if (group < vertical) {
      const size_t y = group % of_column(height_) * kGroup + i;
      return y < height_ ? group / of_column(height_) * height_ + y : taps_;
    }
    const size_t x = 2 * (group - vertical) + i;
    return x == 0 ? taps_ : (x - 1) * height_ + height_ - 1;
  }

  /// Groups of a column of a window that rolls, without a row that pairs up.
  static constexpr size_t of_column(size_t size) {
    return pairs_last_row(size) ? size / kGroup : (size + kGroup - 1) / kGroup;
  }
  static constexpr bool pairs_last_row(size_t size) { return kGroup == 2 && size % 2 == 1; }

 private:
  size_t height_;
  size_t taps_;
  bool rolls_;
};

size_t depthwise_packed_bytes(size_t channels, size_t kernel_height, size_t kernel_width) {
  const size_t groups = Groups(kernel_height, kernel_width).count();
  size_t bytes = 0;
  for_blocks(channels, [&](auto vectors, size_t, size_t) {
    bytes += groups * group_bytes<decltype(vectors)::kIndex>();
  });
  return bytes;
}

void pack_depthwise(size_t channels, size_t kernel_height, size_t kernel_width, const uint8_t* w,
                    uint8_t flip, void* dst, int32_t* channel_sum) {
  const Groups groups(kernel_height, kernel_width);
  Weight* out = static_cast<Weight*>(dst);
  for_blocks(channels, [&](auto vectors, size_t first, size_t live) {
    constexpr size_t kVectors = decltype(vectors)::kIndex;
    for (size_t i = 0; i < groups.count() * kVectors * kLanes * kGroup; ++i) {
      const size_t lane = i / kGroup % kLanes;
      const size_t vector = i / kGroup / kLanes % kVectors;
      const size_t channel = channel_of<kVectors>(vector, lane);
      const size_t tap = groups.tap(i / kGroup / kLanes / kVectors, i % kGroup);
      *out = 0;
      if (channel < live && tap < groups.taps()) {
        // From columns first to rows first.
        const size_t at = tap % kernel_height * kernel_width + tap / kernel_height;
        *out = static_cast<int8_t>(w[(first + channel) * groups.taps() + at] ^ flip);
      }
      ++out;
    }
  });
  sum_channels(channels, groups.taps(), w, flip, channel_sum);
}

/// A window of kSize x kSize taps, kStep columns from pixel to pixel. Each column of taps is loaded
/// and interleaved once, and added to the sums of all kLive pixels that it touches. Those take
/// turns in `sums`, so that which slot is whose is known at compile time.
template <size_t kSize, size_t kStep, typename Block>
void roll(const Block& block, const DepthwiseArgs& args, const uint8_t* const* column,
          const uint8_t* weights, size_t offset, uint8_t* out, size_t out_bytes) {
  constexpr size_t kLive = (kSize - 1) / kStep + 1;
  constexpr size_t kVertical = Groups::of_column(kSize);
  constexpr bool kPairs = Groups::pairs_last_row(kSize);
  constexpr size_t kBytes = group_bytes<Block::kVectors>();
  // The column of a step that completes a pixel, the one that began kLive - 1 steps before.
  constexpr size_t kLast = (kSize - 1) % kStep;
  const size_t steps = args.pixels + kLive - 1;
  typename Block::Sums sums[kLive];
  [[maybe_unused]] typename Block::Raw before = Block::absent();

  // Pixel `i` begins in slot `slot`; `live` pixels are under way. Pixels that lie behind the last
  // one are summed but not stored.
  const auto step = [&](auto slot, auto live, size_t i) Q8_INLINE_LAMBDA {
    constexpr size_t kUnderWay = decltype(live)::kIndex;
    sums[slot] = block.start();
    unroll<0, kStep>([&](auto t) Q8_INLINE_LAMBDA {
      constexpr size_t kColumn = decltype(t)::kIndex;
      if (kColumn > kLast && i + 1 == steps) return;
      // visit(sums, x) for each pixel that has the column as its x-th.
      const auto for_pixels = [&](const auto& visit) Q8_INLINE_LAMBDA {
        unroll<0, kUnderWay>([&](auto age) Q8_INLINE_LAMBDA {
          constexpr size_t kX = decltype(age)::kIndex * kStep + kColumn;
          if constexpr (kX < kSize) visit(sums[(slot + kLive - age) % kLive], Index<kX>{});
        });
      };
      unroll<0, kVertical>([&](auto g) Q8_INLINE_LAMBDA {
        typename Block::Raw rows[kGroup];
        unroll<0, kGroup>([&](auto j) Q8_INLINE_LAMBDA {
          constexpr size_t kY = decltype(g)::kIndex * kGroup + decltype(j)::kIndex;
          if constexpr (kY < kSize) {
            rows[j] = block.load(column[kY] + offset);
          } else {
            rows[j] = Block::absent();
          }
        });
        const auto operand = Block::interleave(rows);
        for_pixels([&](auto& sum, auto x) Q8_INLINE_LAMBDA {
          Block::multiply_add(sum, operand, weights + (x * kVertical + g) * kBytes);
        });
      });
      if constexpr (kPairs) {
        const typename Block::Raw pair[2] = {before, block.load(column[kSize - 1] + offset)};
        before = pair[1];
        if constexpr (kStep == 1 || kColumn % 2 == 0) {
          const auto operand = Block::interleave(pair);
          for_pixels([&](auto& sum, auto x) Q8_INLINE_LAMBDA {
            if constexpr (decltype(x)::kIndex % 2 == 0) {
              Block::multiply_add(sum, operand, weights + (kSize * kVertical + x / 2) * kBytes);
            }
          });
        }
      }
      column += kSize;
      if constexpr (kColumn == kLast && kUnderWay == kLive) {
        block.finish(sums[(slot + 1) % kLive], out);
        out += out_bytes;
      }
    });
  };
  unroll<0, kLive - 1>([&](auto i)
                           Q8_INLINE_LAMBDA { step(i, Index<decltype(i)::kIndex + 1>{}, i); });
  for (size_t i = kLive - 1; i < steps; i += kLive) {
    unroll<0, kLive>([&](auto j) Q8_INLINE_LAMBDA {
      constexpr size_t kSlot = (kLive - 1 + decltype(j)::kIndex) % kLive;
      if (i + j < steps) step(Index<kSlot>{}, Index<kLive>{}, i + j);
    });
  }
}

/// Any window, tap by tap.
template <bool kZeroPoint, typename Block>
void list(const Block& block, const Groups& groups, const DepthwiseArgs& args,
          const uint8_t* const* columns, const uint8_t* weights, size_t offset, uint8_t* out,
          size_t out_bytes) {
  for (size_t p = 0; p < args.pixels; ++p) {
    const uint8_t* const* source = columns + p * args.step * args.kernel_height;
    typename Block::Sums sums = block.start();
    [[maybe_unused]] typename Block::Sums inputs = Block::zero();
    for (size_t g = 0; g < groups.count(); ++g) {
      typename Block::Raw taps[kGroup];
      unroll<0, kGroup>([&](auto i) Q8_INLINE_LAMBDA {
        const size_t tap = groups.tap(g, i);
        taps[i] = tap < groups.taps() ? block.load(source[tap] + offset) : Block::absent();
      });
      const auto operand = Block::interleave(taps);
      Block::multiply_add(sums, operand, weights + g * group_bytes<Block::kVectors>());
      if constexpr (kZeroPoint) Block::add_inputs(inputs, operand);
    }
    if constexpr (kZeroPoint) block.subtract_inputs(sums, inputs);
    block.finish(sums, out);
    out += out_bytes;
  }
}

template <typename Block>
void run_block(const DepthwiseArgs& args, const Groups& groups, const uint8_t* weights,
               size_t first, size_t live) {
  const Epilogue e = advance(args.epilogue, first);
  const Block block(e, live, args.flip);
  const size_t element = output_bytes(e.kind);
  const size_t columns = (args.pixels - 1) * args.step + args.kernel_width;
  const auto for_rows = [&](const auto& run_row) {
    uint8_t* out = static_cast<uint8_t*>(args.out) + first * element;
    const uint8_t* const* source = args.source;
    for (size_t r = 0; r < args.rows; ++r) {
      run_row(source, out, args.out_stride * element);
      source += columns * args.kernel_height;
      out += args.out_row_stride * element;
    }
  };
  const auto rolling = [&](auto size, auto step) {
    for_rows([&](const uint8_t* const* source, uint8_t* out, size_t out_bytes) {
      roll<decltype(size)::kIndex, decltype(step)::kIndex>(block, args, source, weights, first, out,
                                                           out_bytes);
    });
  };
  if (e.b_zero_point != nullptr) {
    return for_rows([&](const uint8_t* const* source, uint8_t* out, size_t out_bytes) {
      list<true>(block, groups, args, source, weights, first, out, out_bytes);
    });
  }
  if (groups.roll() && args.kernel_width == 3) {
    if (args.step == 1) return rolling(Index<3>{}, Index<1>{});
    if (args.step == 2) return rolling(Index<3>{}, Index<2>{});
  } else if (groups.roll()) {
    if (args.step == 1) return rolling(Index<5>{}, Index<1>{});
    if (args.step == 2) return rolling(Index<5>{}, Index<2>{});
  }
  for_rows([&](const uint8_t* const* source, uint8_t* out, size_t out_bytes) {
    list<false>(block, groups, args, source, weights, first, out, out_bytes);
  });
}

void depthwise(const DepthwiseArgs& args) {
  if (args.rows == 0 || args.pixels == 0) return;
  const Groups groups(args.kernel_height, args.kernel_width);
  const uint8_t* weights = static_cast<const uint8_t*>(args.weights);
  for_blocks(args.channels, [&](auto vectors, size_t first, size_t live) {
    constexpr size_t kVectors = decltype(vectors)::kIndex;
    if (output_bytes(args.epilogue.kind) != 1) {
      run_block<Block<kVectors, false, true, false>>(args, groups, weights, first, live);
    } else if (live < kVectors * kLanes) {
      run_block<Block<kVectors, false, true, true>>(args, groups, weights, first, live);
    } else if (args.flip != 0) {
      run_block<Block<kVectors, true, true, true>>(args, groups, weights, first, live);
    } else if (rounding_of(args.epilogue) == Rounding::kPlain) {
      run_block<PlainBlock<kVectors>>(args, groups, weights, first, live);
    } else {
      run_block<Block<kVectors, true, false, true>>(args, groups, weights, first, live);
    }
    weights += groups.count() * group_bytes<kVectors>();
  });
}

constexpr ConvKernels kConvKernels = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
