// SPDX-License-Identifier: MIT
/// The depthwise kernel of every instruction set against the definition, with guard pages behind
/// each tap, the weights, the column arrays and the output.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "guarded_buffer.h"
#include "levels.h"
#include "reference.h"

namespace q8::test {
namespace {

uint8_t code(uint32_t fill, size_t i, Random& random) {
  if (fill == 0) return 0xff;
  if (fill == 1) return 0x80;
  if (fill == 2) return i % 2 ? 0x80 : 0x7f;
  return static_cast<uint8_t>(random.below(256));
}

void check_depthwise(const Level& level, size_t channels, size_t taps, OutKind kind,
                     bool zero_points, Random& random) {
  const size_t padded = (channels + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
  const size_t pixels = 1 + random.below(3);
  const uint32_t fill = random.below(5);
  const uint8_t flip_x = random.below(2) ? 0x80 : 0;
  const uint8_t flip_w = random.below(2) ? 0x80 : 0;

  std::vector<std::unique_ptr<GuardedBuffer<uint8_t>>> taps_data;
  std::vector<const uint8_t*> source;
  for (size_t i = 0; i < pixels * taps; ++i) {
    // A few taps share a row, as padding does.
    if (taps_data.size() < 12) {
      taps_data.push_back(std::make_unique<GuardedBuffer<uint8_t>>(channels));
      for (size_t c = 0; c < channels; ++c) (*taps_data.back())[c] = code(fill, c, random);
    }
    source.push_back(taps_data[i % taps_data.size()]->data());
  }
  GuardedBuffer<uint8_t> w(channels * taps);
  for (size_t i = 0; i < w.size(); ++i) w[i] = code(fill == 0 ? 1 : fill, i, random);

  GuardedBuffer<uint8_t> packed((level.conv->depthwise_packed_bytes(channels, taps) + 63) / 64 *
                                64);
  GuardedBuffer<int32_t> channel_sum(padded);
  level.conv->pack_depthwise(channels, taps, w.data(), flip_w, packed.data(), channel_sum.data());

  GuardedBuffer<int32_t> bias(padded);
  GuardedBuffer<int32_t> zero_point(padded);
  GuardedBuffer<float> scale(padded);
  GuardedBuffer<float> float_bias(padded);
  for (size_t c = 0; c < padded; ++c) {
    bias[c] = static_cast<int32_t>(random.below(20001)) - 10000;
    zero_point[c] = static_cast<int32_t>(random.below(256)) - 128;
    scale[c] = static_cast<float>(1 + random.below(1000)) / 65536.0f;
    float_bias[c] = static_cast<float>(random.below(2000)) / 512.0f;
  }
  Epilogue e = {};
  e.kind = kind;
  e.bias = bias.data();
  e.b_zero_point = zero_points ? zero_point.data() : nullptr;
  e.scale = scale.data();
  e.float_bias = random.below(2) ? float_bias.data() : nullptr;
  e.zero_point = kind == OutKind::kS8 ? -3 : 7;
  e.lo = static_cast<float>((kind == OutKind::kS8 ? -128 : 0) - e.zero_point);
  e.hi = static_cast<float>((kind == OutKind::kS8 ? 127 : 255) - e.zero_point);

  const size_t element = output_bytes(kind);
  const size_t stride = channels + random.below(3);
  GuardedBuffer<uint8_t> out(((pixels - 1) * stride + channels) * element);
  DepthwiseArgs args = {};
  args.pixels = pixels;
  args.channels = channels;
  args.taps = taps;
  args.source = source.data();
  args.flip = flip_x;
  args.weights = packed.data();
  args.epilogue = e;
  args.out = out.data();
  args.out_stride = stride;
  std::memset(out.data(), 0xa5, out.size());
  level.conv->depthwise(args);

  const std::string label = level.name + " channels " + std::to_string(channels) + " taps " +
                            std::to_string(taps) + " kind " +
                            std::to_string(static_cast<int>(kind));
  for (size_t c = 0; c < padded; ++c) {
    int32_t sum = 0;
    for (size_t t = 0; t < taps && c < channels; ++t)
      sum += static_cast<int8_t>(w[c * taps + t] ^ flip_w);
    Q8_CHECK(channel_sum[c] == sum, label + ": channel sum " + std::to_string(c));
  }
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < channels; ++c) {
      int32_t products = 0;
      int32_t inputs = 0;
      for (size_t t = 0; t < taps; ++t) {
        const uint8_t byte = source[p * taps + t][c] ^ flip_x;
        const int32_t x = level.gemm->a_signed ? static_cast<int8_t>(byte) : byte;
        products += x * static_cast<int8_t>(w[c * taps + t] ^ flip_w);
        inputs += x;
      }
      Epilogue with_sum = e;
      with_sum.row_sum = &inputs;
      const uint32_t expected = reference_output(with_sum, static_cast<uint32_t>(products), 0, c);
      uint32_t actual = 0;
      std::memcpy(&actual, out.data() + (p * stride + c) * element, element);
      Q8_CHECK(actual == expected,
               label + ": pixel " + std::to_string(p) + " channel " + std::to_string(c));
    }
    for (size_t i = channels * element; i < stride * element && p + 1 < pixels; ++i) {
      Q8_CHECK(out[p * stride * element + i] == 0xa5, label + ": wrote between pixels");
    }
  }
}

Q8_TEST(depthwise_equals_the_definition) {
  Random random(7);
  for (const Level& level : runnable_levels()) {
    for (const size_t channels :
         {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 80, 127, 128, 129, 200}) {
      for (const size_t taps : {1, 2, 3, 4, 5, 7, 8, 9, 16, 25, 49}) {
        for (const OutKind kind : {OutKind::kS32, OutKind::kF32, OutKind::kU8, OutKind::kS8}) {
          for (const bool zero_points : {false, true})
            check_depthwise(level, channels, taps, kind, zero_points, random);
        }
      }
    }
  }
}

}  // namespace
}  // namespace q8::test
