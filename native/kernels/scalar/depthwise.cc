// SPDX-License-Identifier: MIT
/// Depthwise convolution in portable C++: the reference. Packed weights are canonical s8,
/// [channels][taps] as in ONNX.
#include "kernels/common/depthwise-inl.h"

namespace q8::scalar {
namespace {

size_t depthwise_packed_bytes(size_t channels, size_t kernel_height, size_t kernel_width) {
  return channels * kernel_height * kernel_width;
}

void pack_depthwise(size_t channels, size_t kernel_height, size_t kernel_width, const uint8_t* w,
                    uint8_t flip, void* dst, int32_t* channel_sum) {
  const size_t taps = kernel_height * kernel_width;
  uint8_t* out = static_cast<uint8_t*>(dst);
  for (size_t i = 0; i < channels * taps; ++i) out[i] = w[i] ^ flip;
  sum_channels(channels, taps, w, flip, channel_sum);
}

void depthwise(const DepthwiseArgs& args) {
  const int8_t* weights = static_cast<const int8_t*>(args.weights);
  const size_t height = args.kernel_height;
  const size_t width = args.kernel_width;
  const size_t element = output_bytes(args.epilogue.kind);
  for (size_t i = 0; i < args.rows * args.pixels; ++i) {
    const size_t row = i / args.pixels;
    const size_t pixel = i % args.pixels;
    const size_t column = row * ((args.pixels - 1) * args.step + width) + pixel * args.step;
    const uint8_t* const* source = args.source + column * height;
    uint8_t* out = static_cast<uint8_t*>(args.out) +
                   (row * args.out_row_stride + pixel * args.out_stride) * element;
    for (size_t c = 0; c < args.channels; ++c) {
      int32_t products = 0;
      int32_t inputs = 0;
      for (size_t t = 0; t < height * width; ++t) {
        const int32_t x = source[t % width * height + t / width][c] ^ args.flip;
        products += x * weights[c * height * width + t];
        inputs += x;
      }
      finish_channel(args.epilogue, c, products, inputs, out);
    }
  }
}

}  // namespace

extern const ConvKernels kConv = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace q8::scalar
