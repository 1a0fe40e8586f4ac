// SPDX-License-Identifier: MIT
/// Dynamic quantization: the range of a tensor, its codes, and products whose activation has a
/// scale and a zero point that are known in the run only.
#include <algorithm>
#include <array>
#include <utility>

#include "gemm/dynamic_quantize.h"
#include "ops/run_time_params.h"
#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

/// Elements of the buffer that holds a range: low, high.
constexpr size_t kRangeFloats = 2;

FloatRange range_of(const float* buffer) {
  FloatRange range;
  range.low = buffer[0];
  range.high = buffer[1];
  return range;
}

class Range final : public Step {
 public:
  explicit Range(StepReader& reader) : kernels_(*reader.table().vector) {
    x_ = reader.input("x", kFloat, 0);
    y_ = reader.output("y", kFloat, kRangeFloats);
    elements_ = reader.ok() ? reader.info(x_).elements : 0;
  }

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    // One range per part; the order in which they are merged does not matter.
    std::array<FloatRange, kMaxParts> ranges;
    const size_t part = std::max(kMinPart, (elements_ + kMaxParts - 1) / kMaxParts);
    const size_t parts = (elements_ + part - 1) / part;
    for_parts(context, parts, part * sizeof(float), [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i) {
        ranges[i].include(kernels_, x + i * part, std::min(part, elements_ - i * part));
      }
    });
    FloatRange all;
    for (size_t i = 0; i < parts; ++i) {
      all.low = std::min(all.low, ranges[i].low);
      all.high = std::max(all.high, ranges[i].high);
    }
    float* y = context.data<float>(y_);
    y[0] = all.low;
    y[1] = all.high;
    return {};
  }

 private:
  static constexpr size_t kMaxParts = 64;
  static constexpr size_t kMinPart = 4096;

  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t elements_ = 0;
};

class QuantizeDynamic final : public Step {
 public:
  explicit QuantizeDynamic(StepReader& reader) : kernels_(*reader.table().vector) {
    y_ = reader.output("y", {DType::kUint8}, 0);
    elements_ = reader.ok() ? reader.info(y_).elements : 0;
    x_ = reader.input("x", kFloat, elements_);
    range_ = reader.input("range", kFloat, kRangeFloats);
  }

  Status run(const RunContext& context) const override {
    const QuantizeParams params = dynamic_params(range_of(context.data<const float>(range_)));
    const float* x = context.data<const float>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    for_parts(context, elements_, sizeof(float) + 1, [&](size_t first, size_t count) {
      kernels_.quantize(count, x + first, params, y + first);
    });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  BufferId range_ = 0;
  size_t elements_ = 0;
};

/// The scale (float32) or the zero point (uint8) of codes of a range.
class RangeParameter final : public Step {
 public:
  explicit RangeParameter(StepReader& reader) {
    x_ = reader.input("x", kFloat, kRangeFloats);
    y_ = reader.output("y", {DType::kFloat32, DType::kUint8}, 1);
    wants_scale_ = reader.dtype(y_) == DType::kFloat32;
  }

  Status run(const RunContext& context) const override {
    const QuantizeParams params = dynamic_params(range_of(context.data<const float>(x_)));
    if (wants_scale_) {
      *context.data<float>(y_) = params.scale;
    } else {
      *context.data<uint8_t>(y_) = static_cast<uint8_t>(params.zero_point);
    }
    return {};
  }

 private:
  BufferId x_ = 0;
  BufferId y_ = 0;
  bool wants_scale_ = false;
};

/// QGemm whose x has its scale and zero point in buffers.
class QGemmDynamic final : public Step {
 public:
  explicit QGemmDynamic(StepReader& reader) {
    m_ = reader.size("m");
    weights_ = reader.weights("weights").gemm;
    if (weights_ == nullptr) reader.fail("weights from packGemm()", "weights");
    if (!reader.ok()) return;
    x_ = reader.input("x", kCodes, checked_product({m_, weights_->k()}));
    zero_point_ = RunTimeZeroPoint(reader, x_);
    spec_ = reader.output_spec(weights_->n(), checked_product({m_, weights_->n()}), &y_);
    scale_ = RunTimeScale(reader, spec_.kind);
    spec_.scale.resize(spec_.scale.empty() ? 0 : weights_->padded_n());
    spec_.float_bias.resize(spec_.float_bias.empty() ? 0 : weights_->padded_n());
  }

  size_t scratch_bytes() const override {
    return weights_->padded_n() * (sizeof(int32_t) + sizeof(float));
  }

  Status run(const RunContext& context) const override {
    int32_t* bias = reinterpret_cast<int32_t*>(context.scratch);
    float* scale = reinterpret_cast<float*>(bias + weights_->padded_n());
    fold_bias(*weights_, zero_point_.value(context), zero_point_.is_signed,
              spec_.bias.empty() ? nullptr : spec_.bias.data(), bias);
    const float x_scale = scale_.value(context);
    for (size_t i = 0; i < spec_.scale.size(); ++i) scale[i] = x_scale * spec_.scale[i];

    GemmCall call;
    call.m = m_;
    call.a.data = context.data<const uint8_t>(x_);
    call.a.row_bytes = weights_->k();
    call.a.is_signed = zero_point_.is_signed;
    call.b = weights_.get();
    call.epilogue.kind = spec_.kind;
    call.epilogue.bias = bias;
    call.epilogue.scale = spec_.scale.empty() ? nullptr : scale;
    call.epilogue.float_bias = spec_.float_bias.empty() ? nullptr : spec_.float_bias.data();
    call.c = context.data<uint8_t>(y_);
    call.ldc = weights_->n();
    call.threads = context.threads;
    call.cancel = context.cancel;
    return run_gemm(call);
  }

 private:
  size_t m_ = 0;
  std::shared_ptr<const PackedB> weights_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  RunTimeZeroPoint zero_point_;
  RunTimeScale scale_;
  OutputSpec spec_;
};

}  // namespace

RunTimeZeroPoint::RunTimeZeroPoint(StepReader& reader, BufferId codes)
    : buffer(reader.input("xZeroPoint", kCodes, 1)), is_signed(reader.is_signed(codes)) {
  if (reader.ok() && reader.dtype(buffer) != reader.dtype(codes))
    reader.fail("a buffer of the dtype of x", "xZeroPoint", Code::kUnsupportedDtype);
}

int32_t RunTimeZeroPoint::value(const RunContext& context) const {
  return is_signed ? *context.data<const int8_t>(buffer) : *context.data<const uint8_t>(buffer);
}

RunTimeScale::RunTimeScale(StepReader& reader, OutKind kind) {
  if (kind == OutKind::kF32) {
    buffer = reader.input("xScale", kFloat, 1);
    present = true;
  } else if (kind != OutKind::kS32) {
    reader.fail("kind 'dequantize' or 'int32'", "output");
  }
}

float RunTimeScale::value(const RunContext& context) const {
  return present ? *context.data<const float>(buffer) : 1.0f;
}

std::unique_ptr<Step> make_range(StepReader& reader) { return std::make_unique<Range>(reader); }
std::unique_ptr<Step> make_quantize_dynamic(StepReader& reader) {
  return std::make_unique<QuantizeDynamic>(reader);
}
std::unique_ptr<Step> make_range_parameter(StepReader& reader) {
  return std::make_unique<RangeParameter>(reader);
}
std::unique_ptr<Step> make_qgemm_dynamic(StepReader& reader) {
  return std::make_unique<QGemmDynamic>(reader);
}

}  // namespace q8
