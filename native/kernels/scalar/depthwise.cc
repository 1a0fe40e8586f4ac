// SPDX-License-Identifier: MIT
/// Depthwise convolution in portable C++: the reference. Packed weights are canonical s8,
/// [channels][taps] as in ONNX.
#include "kernels/common/depthwise-inl.h"

namespace q8::scalar {
namespace {

size_t depthwise_packed_bytes(size_t channels, size_t taps) { return channels * taps; }

void pack_depthwise(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                    int32_t* channel_sum) {
  uint8_t* out = static_cast<uint8_t*>(dst);
  for (size_t i = 0; i < channels * taps; ++i) out[i] = w[i] ^ flip;
  sum_channels(channels, taps, w, flip, channel_sum);
}

void depthwise(const DepthwiseArgs& args) {
  const int8_t* weights = static_cast<const int8_t*>(args.weights);
  uint8_t* out = static_cast<uint8_t*>(args.out);
  for (size_t p = 0; p < args.pixels; ++p) {
    const uint8_t* const* source = args.source + p * args.taps;
    for (size_t c = 0; c < args.channels; ++c) {
      int32_t products = 0;
      int32_t inputs = 0;
      for (size_t t = 0; t < args.taps; ++t) {
        const int32_t x = source[t][c] ^ args.flip;
        products += x * weights[c * args.taps + t];
        inputs += x;
      }
      finish_channel(args.epilogue, c, products, inputs, out);
    }
    out += args.out_stride * output_bytes(args.epilogue.kind);
  }
}

}  // namespace

extern const ConvKernels kConv = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace q8::scalar
