// SPDX-License-Identifier: MIT
/// float32 convolution: the same lowering as qconv_step.cc on the float GEMM. Padding taps read
/// zeros.
#include "conv/conv_step.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "conv/packed_conv.h"
#include "conv/window.h"
#include "core/abort_flag.h"
#include "ops/float_gemm.h"
#include "program/parallel.h"

namespace q8 {
namespace {

class Conv final : public Step {
 public:
  explicit Conv(StepReader& reader)
      : kernels_(*reader.table().vector), geometry_(Geometry::read(reader)) {
    weights_ = reader.weights("weights").conv_f32;
    const size_t out_channels = reader.size("outChannels");
    const size_t group = reader.size("group", 1);
    if (weights_ == nullptr) reader.fail("weights from packConvF32()", "weights");
    if (!reader.ok()) return;
    const Geometry& g = geometry_;
    const ConvDims& dims = weights_->dims();
    if (dims.out_channels != out_channels || dims.group != group ||
        dims.group_channels * dims.group != g.channels || dims.kernel_height != g.kernel_height ||
        dims.kernel_width != g.kernel_width) {
      reader.fail("weights of the step's channels, group and kernel", "weights",
                  Code::kShapeMismatch);
    }
    x_ = reader.input("x", kFloat, g.input_elements());
    y_ = reader.output("y", kFloat, checked_product({g.pixels(), out_channels}));
    lo_ = reader.bound("min");
    hi_ = reader.bound("max");
    const std::vector<float> bias = reader.optional_floats("bias", out_channels);
    if (!reader.ok()) return;
    window_ = Window(g, sizeof(float));
    zeros_.assign(g.channels, 0.0f);
    // Each group's bias is padded to whole panels of its own.
    const size_t outputs = dims.group_outputs();
    bias_stride_ = (outputs + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
    if (bias.empty()) return;
    if (dims.depthwise()) {
      bias_ = bias;
      return;
    }
    bias_.assign(bias_stride_ * group, 0.0f);
    for (size_t i = 0; i < out_channels; ++i)
      bias_[i / outputs * bias_stride_ + i % outputs] = bias[i];
  }

  Status run(const RunContext& context) const override {
    if (geometry_.pixels() == 0) return {};
    return weights_->dims().depthwise() ? run_depthwise(context) : run_gemms(context);
  }

 private:
  static const uint8_t** tap_scratch(size_t count) {
    thread_local std::vector<const uint8_t*> taps;
    if (taps.size() < count) taps.resize(count);
    return taps.data();
  }

  Status run_depthwise(const RunContext& context) const {
    const uint8_t* x = context.data<const uint8_t>(x_);
    float* y = context.data<float>(y_);
    const size_t taps = geometry_.taps();
    const size_t channels = geometry_.channels;
    for_parts(
        context, geometry_.pixels(), taps * channels * sizeof(float),
        [&](size_t first, size_t count) {
          const uint8_t** sources = tap_scratch(taps);
          for (size_t p = first; p < first + count; ++p) {
            window_.resolve(x, p, 1, reinterpret_cast<const uint8_t*>(zeros_.data()), sources);
            kernels_.depthwise_f32(channels, taps, reinterpret_cast<const float* const*>(sources),
                                   weights_->depthwise_weights(),
                                   bias_.empty() ? nullptr : bias_.data(), lo_, hi_,
                                   y + p * channels);
          }
        });
    return {};
  }

  Status run_gemms(const RunContext& context) const {
    const ConvDims& dims = weights_->dims();
    const float* x = context.data<const float>(x_);
    for (size_t g = 0; g < dims.group; ++g) {
      const float* first_channel = x + g * dims.group_channels;
      GemmF32Call call;
      call.kernels = &kernels_;
      call.m = geometry_.pixels();
      call.n = dims.group_outputs();
      call.k = dims.depth();
      call.b = weights_->group(g).data();
      call.bias = bias_.empty() ? nullptr : bias_.data() + g * bias_stride_;
      call.lo = lo_;
      call.hi = hi_;
      call.c = context.data<float>(y_) + g * dims.group_outputs();
      call.ldc = dims.out_channels;
      call.threads = context.threads;
      call.cancel = context.cancel;
      if (geometry_.is_pointwise()) {
        call.a = first_channel;
        call.lda = geometry_.channels;
      } else {
        call.gather = [this, first_channel](size_t first, size_t count, float* dst) {
          gather(first_channel, first, count, dst);
        };
      }
      const Status status = run_gemm_f32(call);
      if (!status.ok()) return status;
    }
    return {};
  }

  void gather(const float* x, size_t first, size_t count, float* dst) const {
    const size_t taps = geometry_.taps();
    const size_t channels = weights_->dims().group_channels;
    const uint8_t** sources = tap_scratch(count * taps);
    window_.resolve(reinterpret_cast<const uint8_t*>(x), first, count,
                    reinterpret_cast<const uint8_t*>(zeros_.data()), sources);
    for (size_t i = 0; i < count * taps; ++i)
      std::memcpy(dst + i * channels, sources[i], channels * sizeof(float));
  }

  const VectorKernels& kernels_;
  Geometry geometry_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  std::shared_ptr<const PackedConvF32> weights_;
  Window window_;
  std::vector<float> zeros_;
  std::vector<float> bias_;
  size_t bias_stride_ = 0;
  float lo_ = 0;
  float hi_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_conv(StepReader& reader) { return std::make_unique<Conv>(reader); }

}  // namespace q8
