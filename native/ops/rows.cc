// SPDX-License-Identifier: MIT
/// Operators along one axis of [outer, axis, inner]: softmax, reductions, layer normalization. An
/// axis with inner == 1 is contiguous and folds in the fixed order of VectorKernels; otherwise
/// columns are folded row after row.
#include <algorithm>
#include <cmath>

#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

struct Axis {
  size_t outer = 0;
  size_t size = 0;
  size_t inner = 0;

  explicit Axis(StepReader& reader)
      : outer(reader.size("outer")), size(reader.size("axisSize")), inner(reader.size("inner")) {}

  size_t elements() const { return checked_product({outer, size, inner}); }
  size_t reduced() const { return checked_product({outer, inner}); }

  /// Calls block(outer index, first column, columns) for blocks of at most `width` columns.
  template <typename Block>
  void for_column_blocks(const RunContext& context, size_t width, const Block& block) const {
    const size_t blocks = (inner + width - 1) / width;
    for_parts(context, outer * blocks, size * std::min(width, inner) * 8,
              [&](size_t first, size_t count) {
                for (size_t i = first; i < first + count; ++i) {
                  const size_t column = i % blocks * width;
                  block(i / blocks, column, std::min(width, inner - column));
                }
              });
  }
};

class Softmax final : public Step {
 public:
  explicit Softmax(StepReader& reader) : kernels_(*reader.table().vector), axis_(reader) {
    x_ = reader.input("x", kFloat, axis_.elements());
    y_ = reader.output("y", kFloat, axis_.elements());
    guarded_ = reader.boolean("guarded");
  }

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    float* y = context.data<float>(y_);
    if (axis_.inner == 1) {
      for_parts(context, axis_.outer, axis_.size * 16, [&](size_t first, size_t count) {
        for (size_t o = first; o < first + count; ++o) {
          float* row = y + o * axis_.size;
          kernels_.softmax(axis_.size, x + o * axis_.size, row);
          // The sum is NaN, and so is all that it divides.
          if (guarded_ && axis_.size > 0 && std::isnan(row[0])) std::fill_n(row, axis_.size, 0.0f);
        }
      });
      return {};
    }
    axis_.for_column_blocks(context, kColumnBlock, [&](size_t o, size_t column, size_t columns) {
      const size_t at = o * axis_.size * axis_.inner + column;
      kernels_.softmax_columns(axis_.size, axis_.inner, columns, x + at, y + at);
      for (size_t i = 0; guarded_ && i < axis_.size; ++i) {
        float* row = y + at + i * axis_.inner;
        std::replace_if(
            row, row + columns, [](float value) { return std::isnan(value); }, 0.0f);
      }
    });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  Axis axis_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  /// Whether rows without a result (NaN) are 0.
  bool guarded_ = false;
};

class Reduce final : public Step {
 public:
  explicit Reduce(StepReader& reader) : kernels_(*reader.table().vector), axis_(reader) {
    const std::string kind = reader.string("kind");
    if (kind == "mean") {
      kind_ = ReduceKind::kMean;
    } else if (kind == "sum") {
      kind_ = ReduceKind::kSum;
    } else if (kind == "max") {
      kind_ = ReduceKind::kMax;
    } else if (kind == "min") {
      kind_ = ReduceKind::kMin;
    } else {
      reader.fail("'mean', 'sum', 'max' or 'min'", "kind");
    }
    x_ = reader.input("x", kFloat, axis_.elements());
    y_ = reader.output("y", kFloat, axis_.reduced());
  }

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    float* y = context.data<float>(y_);
    if (axis_.inner == 1) {
      for_parts(context, axis_.outer, axis_.size * 4, [&](size_t first, size_t count) {
        for (size_t o = first; o < first + count; ++o)
          y[o] = kernels_.reduce(kind_, axis_.size, x + o * axis_.size);
      });
      return {};
    }
    axis_.for_column_blocks(context, kColumns, [&](size_t o, size_t column, size_t columns) {
      kernels_.reduce_columns(kind_, axis_.size, axis_.inner, columns,
                              x + o * axis_.size * axis_.inner + column,
                              y + o * axis_.inner + column);
    });
    return {};
  }

 private:
  static constexpr size_t kColumns = 1024;

  const VectorKernels& kernels_;
  Axis axis_;
  ReduceKind kind_ = ReduceKind::kMean;
  BufferId x_ = 0;
  BufferId y_ = 0;
};

class LayerNorm final : public Step {
 public:
  explicit LayerNorm(StepReader& reader) : kernels_(*reader.table().vector) {
    outer_ = reader.size("outer");
    size_ = reader.size("size");
    x_ = reader.input("x", kFloat, checked_product({outer_, size_}));
    y_ = reader.output("y", kFloat, checked_product({outer_, size_}));
    scale_ = reader.input("scale", kFloat, size_);
    has_bias_ = !reader.is_null("bias");
    if (has_bias_) bias_ = reader.input("bias", kFloat, size_);
    epsilon_ = reader.real("epsilon");
  }

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    float* y = context.data<float>(y_);
    const float* scale = context.data<const float>(scale_);
    const float* bias = has_bias_ ? context.data<const float>(bias_) : nullptr;
    for_parts(context, outer_, size_ * 16, [&](size_t first, size_t count) {
      for (size_t o = first; o < first + count; ++o) {
        kernels_.layer_norm(size_, x + o * size_, scale, bias, epsilon_, y + o * size_);
      }
    });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  size_t outer_ = 0;
  size_t size_ = 0;
  BufferId x_ = 0;
  BufferId y_ = 0;
  BufferId scale_ = 0;
  BufferId bias_ = 0;
  bool has_bias_ = false;
  float epsilon_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_softmax(StepReader& reader) { return std::make_unique<Softmax>(reader); }
std::unique_ptr<Step> make_reduce(StepReader& reader) { return std::make_unique<Reduce>(reader); }
std::unique_ptr<Step> make_layer_norm(StepReader& reader) {
  return std::make_unique<LayerNorm>(reader);
}

}  // namespace q8
