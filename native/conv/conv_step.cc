// SPDX-License-Identifier: MIT
/// float32 convolution: an implicit GEMM that reads the image in place, kernel row by kernel row or
/// tap by tap, or a depthwise kernel. Padding taps read zeros.
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
    merges_rows_ = dims.group == 1 && g.kernel_width > 1 && g.dilation_width == 1 && g.is_planar();
    zeros_.assign((merges_rows_ ? g.kernel_width : 1) * g.channels, 0.0f);
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
  /// Taps of fewer floats are copied together: starting them over and over would cost more.
  static constexpr size_t kMinSegment = 8;
  /// Pixels of a depthwise convolution whose taps are resolved at a time.
  static constexpr size_t kDepthwisePixels = 48;

  static const uint8_t** tap_scratch(size_t count) {
    thread_local std::vector<const uint8_t*> taps;
    if (taps.size() < count) taps.resize(count);
    return taps.data();
  }

  const uint8_t* outside() const { return reinterpret_cast<const uint8_t*>(zeros_.data()); }

  Status run_depthwise(const RunContext& context) const {
    const uint8_t* x = context.data<const uint8_t>(x_);
    float* y = context.data<float>(y_);
    const size_t taps = geometry_.taps();
    const size_t channels = geometry_.channels;
    const FloatEpilogue epilogue = {bias_.empty() ? nullptr : bias_.data(), lo_, hi_};
    for_parts(context, geometry_.pixels(), taps * channels * sizeof(float),
              [&](size_t first, size_t count) {
                const uint8_t** sources = tap_scratch(kDepthwisePixels * taps);
                for (size_t p = first; p < first + count; p += kDepthwisePixels) {
                  if (is_aborted(context.cancel)) return;
                  const size_t pixels = std::min(kDepthwisePixels, first + count - p);
                  window_.resolve(x, p, pixels, outside(), sources);
                  kernels_.depthwise_f32(pixels, channels, taps,
                                         reinterpret_cast<const float* const*>(sources),
                                         weights_->depthwise_weights(), epilogue, y + p * channels);
                }
              });
    if (is_aborted(context.cancel)) return {Code::kAborted, "The run was aborted."};
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
      call.segment = dims.group_channels;
      call.b = weights_->group(g).data();
      call.epilogue = {bias_.empty() ? nullptr : bias_.data() + g * bias_stride_, lo_, hi_};
      call.c = context.data<float>(y_) + g * dims.group_outputs();
      call.ldc = dims.out_channels;
      call.threads = context.threads;
      call.cancel = context.cancel;
      if (geometry_.is_pointwise()) {
        call.a = first_channel;
        call.lda = geometry_.channels;
      } else if (merges_rows_) {
        call.segments = dims.kernel_height;
        call.segment = dims.kernel_width * dims.group_channels;
        call.row_bytes = row_bytes();
        call.resolve = [this, x](size_t first, size_t count, const float** source) {
          resolve_rows(x, first, count, source);
        };
      } else if (dims.group_channels >= kMinSegment) {
        call.segments = dims.taps();
        call.row_bytes = row_bytes();
        call.resolve = [this, first_channel](size_t first, size_t count, const float** source) {
          window_.resolve(reinterpret_cast<const uint8_t*>(first_channel), first, count, outside(),
                          reinterpret_cast<const uint8_t**>(source));
        };
      } else {
        call.segment = dims.depth();
        call.resolve = [this, first_channel](size_t first, size_t count, const float** source) {
          gather(first_channel, first, count, source);
        };
      }
      const Status status = run_gemm_f32(call);
      if (!status.ok()) return status;
    }
    return {};
  }

  /// Windows overlap: a pixel adds the rows and columns that its neighbours do not have.
  size_t row_bytes() const {
    const size_t step = geometry_.stride_height * geometry_.stride_width * geometry_.channels;
    return std::min(weights_->dims().depth(), step) * sizeof(float);
  }

  /// Points at whole kernel rows: in the image, or, where they reach over its sides, in a copy.
  void resolve_rows(const float* x, size_t first, size_t count, const float** source) const {
    thread_local std::vector<float> copies;
    const Geometry& g = geometry_;
    const size_t run = g.kernel_width * g.channels;
    if (copies.size() < count * g.kernel_height * run) copies.resize(count * g.kernel_height * run);
    float* copy = copies.data();
    for (size_t p = first; p < first + count; ++p) {
      const size_t left = p % g.out_width * g.stride_width;
      const size_t top = p / g.out_width % g.out_height * g.stride_height;
      const float* image = x + p / g.out_width / g.out_height * g.height * g.width * g.channels;
      // Taps [begin, end) of a row lie inside.
      const size_t begin = std::min(g.pad_left > left ? g.pad_left - left : 0, g.kernel_width);
      const size_t limit = g.width + g.pad_left;
      const size_t end = limit > left ? std::min(limit - left, g.kernel_width) : 0;
      for (size_t ky = 0; ky < g.kernel_height; ++ky) {
        const size_t padded = top + ky * g.dilation_height;
        if (padded < g.pad_top || padded - g.pad_top >= g.height || begin >= end) {
          *source++ = zeros_.data();
          continue;
        }
        const float* row = image + (padded - g.pad_top) * g.width * g.channels;
        const float* inside = row + (left + begin - g.pad_left) * g.channels;
        if (end - begin == g.kernel_width) {
          *source++ = inside;
          continue;
        }
        std::fill_n(copy, run, 0.0f);
        std::memcpy(copy + begin * g.channels, inside, (end - begin) * g.channels * sizeof(float));
        *source++ = copy;
        copy += run;
      }
    }
  }

  /// Copies the windows of `count` pixels, taps that follow each other in one go.
  void gather(const float* x, size_t first, size_t count, const float** rows) const {
    thread_local std::vector<float> gathered;
    const size_t taps = geometry_.taps();
    const size_t depth = weights_->dims().depth();
    const size_t channels = weights_->dims().group_channels;
    if (gathered.size() < count * depth) gathered.resize(count * depth);
    const uint8_t** sources = tap_scratch(count * taps);
    window_.resolve(reinterpret_cast<const uint8_t*>(x), first, count, outside(), sources);
    float* to = gathered.data();
    for (size_t p = 0; p < count; ++p) {
      rows[p] = to;
      for (size_t t = 0; t < taps;) {
        const float* from = reinterpret_cast<const float*>(sources[p * taps + t]);
        size_t run = channels;
        while (++t < taps && sources[p * taps + t] == reinterpret_cast<const uint8_t*>(from + run))
          run += channels;
        for (size_t i = 0; i < run; ++i) to[i] = from[i];
        to += run;
      }
    }
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
  /// Whether the taps of a kernel row follow each other in the image.
  bool merges_rows_ = false;
  float lo_ = 0;
  float hi_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_conv(StepReader& reader) { return std::make_unique<Conv>(reader); }

}  // namespace q8
