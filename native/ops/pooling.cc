// SPDX-License-Identifier: MIT
/// Max and average pooling over NHWC images, 8-bit and float32.
#include <algorithm>
#include <cstring>
#include <limits>

#include "conv/window.h"
#include "ops/code_params.h"
#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

const uint8_t** tap_scratch(size_t count) {
  thread_local std::vector<const uint8_t*> taps;
  if (taps.size() < count) taps.resize(count);
  return taps.data();
}

/// The source pointers of a kernel that reads elements of type T.
template <typename T>
const T* const* typed(const uint8_t** taps) {
  return reinterpret_cast<const T* const*>(taps);
}

/// Geometry, buffers and the walk over output pixels that all windowed pooling shares.
class Pool : public Step {
 protected:
  Pool(StepReader& reader, DTypes x_types, DTypes y_types)
      : kernels_(*reader.table().vector), geometry_(Geometry::read(reader)) {
    x_ = reader.input("x", x_types, geometry_.input_elements());
    y_ = reader.output("y", y_types, checked_product({geometry_.pixels(), geometry_.channels}));
    x_type_ = reader.dtype(x_);
    y_type_ = reader.dtype(y_);
    if (reader.ok()) window_ = Window(geometry_, dtype_bytes(x_type_));
  }

  /// Calls pixel(index, taps, count, y) with the taps inside the image and the first output element
  /// of each pixel.
  template <typename Pixel>
  void for_pixels(const RunContext& context, const Pixel& pixel) const {
    const size_t pixels = geometry_.pixels();
    if (pixels == 0 || geometry_.channels == 0) return;
    const uint8_t* x = context.data<const uint8_t>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    const size_t y_bytes = geometry_.channels * dtype_bytes(y_type_);
    const size_t taps_bytes = geometry_.taps() * geometry_.channels * dtype_bytes(x_type_);
    for_parts(context, pixels, taps_bytes, [&](size_t first, size_t count) {
      const uint8_t** taps = tap_scratch(geometry_.taps());
      for (size_t p = first; p < first + count; ++p) {
        pixel(p, taps, window_.resolve_inside(x, p, taps), y + p * y_bytes);
      }
    });
  }

  const VectorKernels& kernels_;
  Geometry geometry_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  DType x_type_ = DType::kUint8;
  DType y_type_ = DType::kUint8;
  Window window_;
};

class MaxPool final : public Pool {
 public:
  explicit MaxPool(StepReader& reader)
      : Pool(reader, {DType::kUint8, DType::kInt8, DType::kFloat32},
             {DType::kUint8, DType::kInt8, DType::kFloat32}) {
    if (x_type_ != y_type_) reader.fail("the dtype of x", "y", Code::kUnsupportedDtype);
  }

  Status run(const RunContext& context) const override {
    const size_t channels = geometry_.channels;
    for_pixels(context, [&](size_t, const uint8_t** taps, size_t count, uint8_t* y) {
      if (count == 0) {
        fill_lowest(y);
      } else if (x_type_ == DType::kUint8) {
        kernels_.max_pool_u8(channels, count, taps, y);
      } else if (x_type_ == DType::kInt8) {
        kernels_.max_pool_s8(channels, count, typed<int8_t>(taps), reinterpret_cast<int8_t*>(y));
      } else {
        kernels_.max_pool_f32(channels, count, typed<float>(taps), reinterpret_cast<float*>(y));
      }
    });
    return {};
  }

 private:
  /// A window wholly in the padding has no maximum; the lowest value stands for it.
  void fill_lowest(uint8_t* y) const {
    if (x_type_ == DType::kFloat32) {
      std::fill_n(reinterpret_cast<float*>(y), geometry_.channels,
                  -std::numeric_limits<float>::infinity());
    } else {
      std::memset(y, x_type_ == DType::kInt8 ? 0x80 : 0, geometry_.channels);
    }
  }
};

/// What an average is divided by: the taps inside of the image, or of the padded image.
class Divisor {
 public:
  Divisor(StepReader& reader, const Geometry& g) {
    include_pad_ = reader.boolean("countIncludePad");
    const size_t bottom = reader.size("padBottom");
    const size_t right = reader.size("padRight");
    const size_t back = reader.is_null("padBack") ? 0 : reader.size("padBack");
    if (!reader.ok() || !include_pad_ || g.pixels() == 0) return;
    const Depth& d = g.depth;
    const std::vector<size_t> rows =
        counts(g.out_height / d.out, g.kernel_height / d.kernel, g.stride_height, g.dilation_height,
               g.pad_top + g.height / std::max<size_t>(d.size, 1) + bottom);
    for (const size_t slices :
         counts(d.out, d.kernel, d.stride, d.dilation, d.pad_front + d.size + back)) {
      for (const size_t row : rows) rows_.push_back(slices * row);
    }
    columns_ = counts(g.out_width, g.kernel_width, g.stride_width, g.dilation_width,
                      g.pad_left + g.width + right);
  }

  float of(size_t pixel, size_t inside) const {
    // A window without any tap averages to 0.
    if (!include_pad_) return static_cast<float>(std::max<size_t>(inside, 1));
    const size_t count =
        rows_[pixel / columns_.size() % rows_.size()] * columns_[pixel % columns_.size()];
    return static_cast<float>(std::max<size_t>(count, 1));
  }

 private:
  /// Taps of each output position that lie below `end`, counted from the start of the padding.
  static std::vector<size_t> counts(size_t out, size_t kernel, size_t stride, size_t dilation,
                                    size_t end) {
    std::vector<size_t> counts(out);
    for (size_t o = 0; o < out; ++o) {
      for (size_t k = 0; k < kernel; ++k) counts[o] += o * stride + k * dilation < end;
    }
    return counts;
  }

  bool include_pad_ = false;
  std::vector<size_t> rows_;
  std::vector<size_t> columns_;
};

class AveragePool final : public Pool {
 public:
  explicit AveragePool(StepReader& reader)
      : Pool(reader, kFloat, kFloat), divisor_(reader, geometry_) {}

  Status run(const RunContext& context) const override {
    for_pixels(context, [&](size_t pixel, const uint8_t** taps, size_t count, uint8_t* y) {
      kernels_.average_pool(geometry_.channels, count, typed<float>(taps),
                            divisor_.of(pixel, count), reinterpret_cast<float*>(y));
    });
    return {};
  }

 private:
  Divisor divisor_;
};

class QAveragePool final : public Pool {
 public:
  explicit QAveragePool(StepReader& reader)
      : Pool(reader, kCodes, kCodes), divisor_(reader, geometry_) {
    x_params_ = code_params(x_type_, reader.scale("xScale"), reader.zero_point("xZeroPoint", x_));
    y_params_ =
        quantize_params(y_type_, reader.scale("yScale"), reader.zero_point("yZeroPoint", y_));
  }

  Status run(const RunContext& context) const override {
    for_pixels(context, [&](size_t pixel, const uint8_t** taps, size_t count, uint8_t* y) {
      kernels_.qaverage_pool(geometry_.channels, count, taps, x_params_, divisor_.of(pixel, count),
                             y_params_, y);
    });
    return {};
  }

 private:
  Divisor divisor_;
  CodeParams x_params_ = {};
  QuantizeParams y_params_ = {};
};

/// Integer sums, then the requantization of operators.md 4.6.
class QGlobalAveragePool final : public Step {
 public:
  explicit QGlobalAveragePool(StepReader& reader) : kernels_(*reader.table().vector) {
    batch_ = reader.size("batch");
    spatial_ = reader.size("spatial");
    channels_ = reader.size("channels");
    x_ = reader.input("x", kCodes, checked_product({batch_, spatial_, channels_}));
    y_ = reader.output("y", kCodes, checked_product({batch_, channels_}));
    x_flip_ = flip_of(reader.dtype(x_));
    x_zero_point_ = flipped_zero_point(reader.dtype(x_), reader.zero_point("xZeroPoint", x_));
    y_params_ = quantize_params(reader.dtype(y_), reader.scale("multiplier"),
                                reader.zero_point("yZeroPoint", y_));
  }

  Status run(const RunContext& context) const override {
    const size_t blocks = (channels_ + kBlock - 1) / kBlock;
    const uint8_t* x = context.data<const uint8_t>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    for_parts(context, batch_ * blocks, spatial_ * kBlock, [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i) {
        const size_t image = i / blocks;
        const size_t channel = i % blocks * kBlock;
        const size_t live = std::min(kBlock, channels_ - channel);
        int32_t sum[kBlock] = {};
        kernels_.sum_rows(spatial_, live, channels_, x + image * spatial_ * channels_ + channel,
                          x_flip_, sum);
        for (size_t c = 0; c < live; ++c) y[image * channels_ + channel + c] = requantize(sum[c]);
      }
    });
    return {};
  }

 private:
  static constexpr size_t kBlock = 256;

  /// y_params_.scale is a multiplier here.
  uint8_t requantize(int32_t sum) const {
    const uint32_t zero = static_cast<uint32_t>(spatial_) * static_cast<uint32_t>(x_zero_point_);
    const float scaled =
        static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(sum) - zero)) *
        y_params_.scale;
    const float bounded = std::min(std::max(scaled, y_params_.lo), y_params_.hi);
    // Adding 1.5 * 2^23 rounds to nearest, ties to even.
    const int32_t rounded = static_cast<int32_t>((bounded + 12582912.0f) - 12582912.0f);
    return static_cast<uint8_t>(rounded + y_params_.zero_point);
  }

  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t batch_ = 0;
  size_t spatial_ = 0;
  size_t channels_ = 0;
  uint8_t x_flip_ = 0;
  int32_t x_zero_point_ = 0;
  QuantizeParams y_params_ = {};
};

}  // namespace

std::unique_ptr<Step> make_max_pool(StepReader& reader) {
  return std::make_unique<MaxPool>(reader);
}
std::unique_ptr<Step> make_average_pool(StepReader& reader) {
  return std::make_unique<AveragePool>(reader);
}
std::unique_ptr<Step> make_qaverage_pool(StepReader& reader) {
  return std::make_unique<QAveragePool>(reader);
}
std::unique_ptr<Step> make_qglobal_average_pool(StepReader& reader) {
  return std::make_unique<QGlobalAveragePool>(reader);
}

}  // namespace q8
