// SPDX-License-Identifier: MIT
/// Interpolation along one axis of [outer, axis, inner]: every element of the result is a weighted
/// sum of a few elements of the axis.
#include <array>

#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

class Resample final : public Step {
 public:
  explicit Resample(StepReader& reader)
      : kernels_(*reader.table().vector),
        outer_(reader.size("outer")),
        axis_(reader.size("axisSize")),
        inner_(reader.size("inner")),
        count_(reader.size("count")),
        taps_(reader.size("taps")) {
    if (taps_ == 0 || taps_ > kMaxTaps) reader.fail("1 to 64", "taps");
    const size_t weights = checked_product({count_, taps_});
    indices_ = reader.int32s("indices", weights);
    weights_ = reader.floats("weights", weights);
    for (const int32_t index : indices_) {
      if (index < 0 || static_cast<size_t>(index) >= axis_)
        reader.fail("indices below axisSize", "indices");
    }
    x_ = reader.input("x", {DType::kFloat32}, checked_product({outer_, axis_, inner_}));
    y_ = reader.output("y", {DType::kFloat32}, checked_product({outer_, count_, inner_}));
  }

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    float* y = context.data<float>(y_);
    for_parts(context, outer_ * count_, (taps_ + 1) * inner_ * sizeof(float),
              [&](size_t first, size_t rows) {
                for (size_t row = first; row < first + rows; ++row) {
                  const size_t at = row % count_ * taps_;
                  const float* plane = x + row / count_ * axis_ * inner_;
                  std::array<const float*, kMaxTaps> source;
                  std::array<float, kMaxTaps> weights;
                  size_t taps = 0;
                  for (size_t t = at; t < at + taps_; ++t) {
                    // What weighs nothing must not turn an infinity into a NaN.
                    if (weights_[t] == 0) continue;
                    source[taps] = plane + static_cast<size_t>(indices_[t]) * inner_;
                    weights[taps++] = weights_[t];
                  }
                  kernels_.weighted_sum(inner_, taps, source.data(), weights.data(),
                                        y + row * inner_);
                }
              });
    return {};
  }

 private:
  static constexpr size_t kMaxTaps = 64;

  const VectorKernels& kernels_;
  size_t outer_;
  size_t axis_;
  size_t inner_;
  size_t count_;
  size_t taps_;
  std::vector<int32_t> indices_;
  std::vector<float> weights_;
  BufferId x_ = 0;
  BufferId y_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_resample(StepReader& reader) {
  return std::make_unique<Resample>(reader);
}

}  // namespace q8
