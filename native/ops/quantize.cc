// SPDX-License-Identifier: MIT
/// QuantizeLinear, DequantizeLinear and table lookups.
#include <algorithm>
#include <cstring>

#include "core/abort_flag.h"
#include "ops/code_params.h"
#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

/// [outer, axis, inner] with scales along the axis; a single scale is [1, 1, n].
struct AxisParams {
  size_t outer = 0;
  size_t axis = 0;
  size_t inner = 0;
  std::vector<float> scale;
  std::vector<int32_t> zero_point;

  AxisParams(StepReader& reader, DType* codes, BufferId code_buffer) {
    outer = reader.size("outer");
    axis = reader.size("axisSize");
    inner = reader.size("inner");
    *codes = reader.dtype(code_buffer);
    scale = reader.scales("scale", axis);
    zero_point = reader.int32s("zeroPoint", axis);
    for (const int32_t zp : zero_point) {
      if (*codes != DType::kInt32 && (zp < code_min(*codes) || zp > code_max(*codes))) {
        reader.fail("codes of the tensor's type", "zeroPoint");
      }
    }
    if (axis == 1) {
      inner = checked_product({outer, inner});
      outer = 1;
    }
  }

  size_t elements() const { return checked_product({outer, axis, inner}); }
};

/// Calls row(a, first, count) for runs of elements of axis index a, or columns(first) for whole
/// rows of the axis when inner is 1 and there are several.
template <typename Row, typename AxisRow>
void for_axis(const RunContext& context, const AxisParams& p, const Row& row,
              const AxisRow& axis_row) {
  constexpr size_t kBytes = 5;  // of one element, both sides
  if (p.axis == 1) {
    for_parts(context, p.inner, kBytes, [&](size_t first, size_t count) { row(0, first, count); });
  } else if (p.inner == 1) {
    for_parts(context, p.outer, p.axis * kBytes, [&](size_t first, size_t count) {
      for (size_t o = first; o < first + count; ++o) axis_row(o * p.axis);
    });
  } else {
    for_parts(context, p.outer * p.axis, p.inner * kBytes, [&](size_t first, size_t count) {
      for (size_t r = first; r < first + count; ++r) row(r % p.axis, r * p.inner, p.inner);
    });
  }
}

class Quantize final : public Step {
 public:
  Quantize(const VectorKernels& kernels, BufferId x, BufferId y, DType dtype, AxisParams params)
      : kernels_(kernels), x_(x), y_(y), dtype_(dtype), params_(std::move(params)) {}

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    for_axis(
        context, params_,
        [&](size_t a, size_t first, size_t count) {
          kernels_.quantize(count, x + first,
                            quantize_params(dtype_, params_.scale[a], params_.zero_point[a]),
                            y + first);
        },
        [&](size_t first) {
          kernels_.quantize_columns(params_.axis, x + first, params_.scale.data(),
                                    params_.zero_point.data(), code_min(dtype_), code_max(dtype_),
                                    y + first);
        });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  BufferId x_;
  BufferId y_;
  DType dtype_;
  AxisParams params_;
};

class Dequantize final : public Step {
 public:
  Dequantize(const VectorKernels& kernels, BufferId x, BufferId y, DType dtype, AxisParams params)
      : kernels_(kernels), x_(x), y_(y), dtype_(dtype), params_(std::move(params)) {
    if (dtype_ == DType::kInt32) return;
    for (int32_t& zp : params_.zero_point) zp = flipped_zero_point(dtype_, zp);
  }

  Status run(const RunContext& context) const override {
    float* y = context.data<float>(y_);
    const float* scale = params_.scale.data();
    const int32_t* zero_point = params_.zero_point.data();
    if (dtype_ == DType::kInt32) {
      const int32_t* x = context.data<const int32_t>(x_);
      for_axis(
          context, params_,
          [&](size_t a, size_t first, size_t count) {
            kernels_.dequantize_s32(count, x + first, scale[a], zero_point[a], y + first);
          },
          [&](size_t first) {
            kernels_.dequantize_s32_columns(params_.axis, x + first, scale, zero_point, y + first);
          });
      return {};
    }
    const uint8_t* x = context.data<const uint8_t>(x_);
    const uint8_t flip = flip_of(dtype_);
    for_axis(
        context, params_,
        [&](size_t a, size_t first, size_t count) {
          kernels_.dequantize(count, x + first, {scale[a], zero_point[a], flip}, y + first);
        },
        [&](size_t first) {
          kernels_.dequantize_columns(params_.axis, x + first, flip, scale, zero_point, y + first);
        });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  BufferId x_;
  BufferId y_;
  DType dtype_;
  AxisParams params_;
};

/// NCHW float to NHWC codes: each channel of a run of pixels is quantized into a small buffer,
/// which is transposed.
class QuantizeNhwc final : public Step {
 public:
  QuantizeNhwc(StepReader& reader) : kernels_(*reader.table().vector) {
    batch_ = reader.size("batch");
    channels_ = reader.size("channels");
    spatial_ = reader.size("spatial");
    const size_t elements = checked_product({batch_, channels_, spatial_});
    x_ = reader.input("x", kFloat, elements);
    y_ = reader.output("y", kCodes, elements);
    params_ = quantize_params(reader.dtype(y_), reader.scale("scale"),
                              reader.zero_point("zeroPoint", y_));
  }

  Status run(const RunContext& context) const override {
    if (channels_ == 0 || spatial_ == 0) return {};
    const size_t blocks = (spatial_ + kPixels - 1) / kPixels;
    const float* x = context.data<const float>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    for_parts(context, batch_ * blocks, kPixels * channels_ * 5, [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i) {
        const size_t image = i / blocks * channels_ * spatial_;
        const size_t pixel = i % blocks * kPixels;
        quantize_block(x + image + pixel, y + image + pixel * channels_,
                       std::min(kPixels, spatial_ - pixel));
      }
    });
    return {};
  }

 private:
  static constexpr size_t kPixels = 256;
  static constexpr size_t kChannels = 32;

  void quantize_block(const float* x, uint8_t* y, size_t pixels) const {
    uint8_t codes[kChannels * kPixels];
    for (size_t c = 0; c < channels_; c += kChannels) {
      const size_t live = std::min(kChannels, channels_ - c);
      for (size_t i = 0; i < live; ++i)
        kernels_.quantize(pixels, x + (c + i) * spatial_, params_, codes + i * kPixels);
      kernels_.transpose_8(live, pixels, codes, kPixels, y + c, channels_);
    }
  }

  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t batch_ = 0;
  size_t channels_ = 0;
  size_t spatial_ = 0;
  QuantizeParams params_ = {};
};

/// NHWC codes to NCHW float, the other way round.
class DequantizeNchw final : public Step {
 public:
  explicit DequantizeNchw(StepReader& reader) : kernels_(*reader.table().vector) {
    batch_ = reader.size("batch");
    channels_ = reader.size("channels");
    spatial_ = reader.size("spatial");
    const size_t elements = checked_product({batch_, channels_, spatial_});
    x_ = reader.input("x", kCodes, elements);
    y_ = reader.output("y", kFloat, elements);
    params_ =
        code_params(reader.dtype(x_), reader.scale("scale"), reader.zero_point("zeroPoint", x_));
  }

  Status run(const RunContext& context) const override {
    if (channels_ == 0 || spatial_ == 0) return {};
    const size_t blocks = (spatial_ + kPixels - 1) / kPixels;
    const uint8_t* x = context.data<const uint8_t>(x_);
    float* y = context.data<float>(y_);
    for_parts(context, batch_ * blocks, kPixels * channels_ * 5, [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i) {
        const size_t image = i / blocks * channels_ * spatial_;
        const size_t pixel = i % blocks * kPixels;
        dequantize_block(x + image + pixel * channels_, y + image + pixel,
                         std::min(kPixels, spatial_ - pixel));
      }
    });
    return {};
  }

 private:
  static constexpr size_t kPixels = 256;
  static constexpr size_t kChannels = 32;

  void dequantize_block(const uint8_t* x, float* y, size_t pixels) const {
    uint8_t codes[kChannels * kPixels];
    for (size_t c = 0; c < channels_; c += kChannels) {
      const size_t live = std::min(kChannels, channels_ - c);
      kernels_.transpose_8(pixels, live, x + c, channels_, codes, kPixels);
      for (size_t i = 0; i < live; ++i)
        kernels_.dequantize(pixels, codes + i * kPixels, params_, y + (c + i) * spatial_);
    }
  }

  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t batch_ = 0;
  size_t channels_ = 0;
  size_t spatial_ = 0;
  CodeParams params_ = {};
};

class Lut final : public Step {
 public:
  Lut(StepReader& reader) : kernels_(*reader.table().vector) {
    x_ = reader.input("x", kCodes, 0);
    elements_ = reader.ok() ? reader.info(x_).elements : 0;
    y_ = reader.output("y", kCodes, elements_);
    table_ = reader.bytes("table", 256);
  }

  Status run(const RunContext& context) const override {
    const uint8_t* x = context.data<const uint8_t>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    // Lookups take about as long as 8 bytes of traffic.
    for_parts(context, elements_, 8, [&](size_t first, size_t count) {
      kernels_.lut(count, x + first, table_.data(), y + first);
    });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t elements_ = 0;
  std::vector<uint8_t> table_;
};

}  // namespace

std::unique_ptr<Step> make_quantize(StepReader& reader) {
  const BufferId y = reader.output("y", kCodes, 0);
  DType dtype;
  AxisParams params(reader, &dtype, y);
  const BufferId x = reader.input("x", kFloat, params.elements());
  reader.check_input(y, "y", kCodes, params.elements());
  return std::make_unique<Quantize>(*reader.table().vector, x, y, dtype, std::move(params));
}

std::unique_ptr<Step> make_dequantize(StepReader& reader) {
  const BufferId x = reader.input("x", {DType::kUint8, DType::kInt8, DType::kInt32}, 0);
  DType dtype;
  AxisParams params(reader, &dtype, x);
  reader.check_input(x, "x", kAnyDType, params.elements());
  const BufferId y = reader.output("y", kFloat, params.elements());
  return std::make_unique<Dequantize>(*reader.table().vector, x, y, dtype, std::move(params));
}

std::unique_ptr<Step> make_quantize_nhwc(StepReader& reader) {
  return std::make_unique<QuantizeNhwc>(reader);
}

std::unique_ptr<Step> make_dequantize_nchw(StepReader& reader) {
  return std::make_unique<DequantizeNchw>(reader);
}

std::unique_ptr<Step> make_lut(StepReader& reader) { return std::make_unique<Lut>(reader); }

}  // namespace q8
