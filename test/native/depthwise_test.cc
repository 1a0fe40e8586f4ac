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

struct Kernel {
  size_t height;
  size_t width;
  size_t step;
};

void check_depthwise(const Level& level, size_t channels, const Kernel& kernel, size_t pixels,
                     OutKind kind, bool zero_points, Random& random) {
  const size_t padded = (channels + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
  const size_t taps = kernel.height * kernel.width;
  const uint32_t fill = random.below(5);
  const uint8_t flip_x = random.below(2) ? 0x80 : 0;
  const uint8_t flip_w = random.below(2) ? 0x80 : 0;

  std::vector<std::unique_ptr<GuardedBuffer<uint8_t>>> taps_data;
  std::vector<const uint8_t*> source;
  const size_t rows = 1 + random.below(2);
  const size_t columns = (pixels - 1) * kernel.step + kernel.width;
  for (size_t i = 0; i < rows * columns * kernel.height; ++i) {
    // A few taps share a row, as padding does.
    if (taps_data.size() < 12) {
      taps_data.push_back(std::make_unique<GuardedBuffer<uint8_t>>(channels));
      for (size_t c = 0; c < channels; ++c) (*taps_data.back())[c] = code(fill, c, random);
    }
    source.push_back(taps_data[i % taps_data.size()]->data());
  }
  GuardedBuffer<uint8_t> w(channels * taps);
  for (size_t i = 0; i < w.size(); ++i) w[i] = code(fill == 0 ? 1 : fill, i, random);

  GuardedBuffer<uint8_t> packed(
      (level.conv->depthwise_packed_bytes(channels, kernel.height, kernel.width) + 63) / 64 * 64);
  GuardedBuffer<int32_t> channel_sum(padded);
  level.conv->pack_depthwise(channels, kernel.height, kernel.width, w.data(), flip_w, packed.data(),
                             channel_sum.data());

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
  if (random.below(2) != 0) e.zero_point = kind == OutKind::kS8 ? -3 : 7;
  e.scales_below_one = random.below(4) != 0;
  e.lo = static_cast<float>((kind == OutKind::kS8 ? -128 : 0) - e.zero_point);
  e.hi = static_cast<float>((kind == OutKind::kS8 ? 127 : 255) - e.zero_point);

  const size_t element = output_bytes(kind);
  const size_t stride = channels + random.below(3);
  const size_t row_stride = pixels * stride;
  GuardedBuffer<uint8_t> out(((rows - 1) * row_stride + (pixels - 1) * stride + channels) *
                             element);
  DepthwiseArgs args = {};
  args.rows = rows;
  args.pixels = pixels;
  args.channels = channels;
  args.kernel_height = kernel.height;
  args.kernel_width = kernel.width;
  args.step = kernel.step;
  args.source = source.data();
  args.flip = flip_x;
  args.weights = packed.data();
  args.epilogue = e;
  args.out = out.data();
  args.out_stride = stride;
  args.out_row_stride = row_stride;
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
  for (size_t p = 0; p < rows * pixels; ++p) {
    for (size_t c = 0; c < channels; ++c) {
      int32_t products = 0;
      int32_t inputs = 0;
      for (size_t t = 0; t < taps; ++t) {
        const size_t column = p / pixels * columns + p % pixels * kernel.step + t % kernel.width;
        const uint8_t byte = source[column * kernel.height + t / kernel.width][c] ^ flip_x;
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
    for (size_t i = channels * element; i < stride * element && p + 1 < rows * pixels; ++i) {
      Q8_CHECK(out[p * stride * element + i] == 0xa5, label + ": wrote between pixels");
    }
  }
}

constexpr OutKind kKinds[] = {OutKind::kS32, OutKind::kF32, OutKind::kU8, OutKind::kS8};

Q8_TEST(depthwise_equals_the_definition) {
  Random random(7);
  for (const Level& level : runnable_levels()) {
    if (level.conv == nullptr) continue;
    for (const size_t channels :
         {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 80, 96, 127, 128, 129, 200}) {
      for (const Kernel& kernel :
           {Kernel{1, 1, 1}, Kernel{1, 2, 1}, Kernel{3, 1, 1}, Kernel{2, 2, 2}, Kernel{1, 5, 2},
            Kernel{7, 1, 1}, Kernel{4, 4, 3}, Kernel{3, 5, 1}, Kernel{7, 7, 4}}) {
        const size_t pixels = 1 + random.below(3);
        const OutKind kind = kKinds[random.below(4)];
        for (const bool zero_points : {false, true})
          check_depthwise(level, channels, kernel, pixels, kind, zero_points, random);
      }
    }
  }
}

Q8_TEST(depthwise_windows_that_roll) {
  Random random(8);
  for (const Level& level : runnable_levels()) {
    if (level.conv == nullptr) continue;
    for (const size_t channels : {1, 7, 8, 15, 16, 24, 31, 32, 33, 63, 64, 65, 96, 112}) {
      for (const size_t size : {3, 5}) {
        for (const size_t step : {1, 2, 3, 5}) {
          for (const OutKind kind : kKinds) {
            const size_t pixels = 1 + random.below(9);
            check_depthwise(level, channels, {size, size, step}, pixels, kind, random.below(4) == 0,
                            random);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace q8::test
