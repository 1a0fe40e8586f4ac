// SPDX-License-Identifier: MIT
/// Operands broadcast to one output: strides checked against the buffers, axes merged where all
/// operands allow it, and a walk over the rows that remain.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "program/parallel.h"
#include "program/step_reader.h"

namespace q8 {

/// Highest element offset + 1 of a strided view that starts at `offset`; 0 for an empty one,
/// SIZE_MAX when it would reach below 0 or too far.
size_t strided_extent(const std::vector<size_t>& shape, const std::vector<int64_t>& strides,
                      int64_t offset);

/// Axes of a shape.
inline constexpr size_t kMaxRank = 16;

/// Reads an array of sizes, at most kMaxRank axes.
std::vector<size_t> read_shape(StepReader& reader, const char* name);

/// Number of elements, SIZE_MAX when it does not fit.
size_t element_count(const std::vector<size_t>& shape);

/// An operand of a step: its property, and that of its strides.
struct Operand {
  const char* name;
  const char* strides;
  DTypes dtypes;
  BufferId* id;
};

template <size_t kOperands>
class Broadcast {
 public:
  using Offsets = std::array<ptrdiff_t, kOperands>;

  /// Reads shape and the strides; checks the buffers of the operands and of the output "y".
  Broadcast(StepReader& reader, const std::array<Operand, kOperands>& operands, DTypes y_dtypes,
            BufferId* y) {
    const std::vector<size_t> shape = read_shape(reader, "shape");
    std::array<std::vector<int64_t>, kOperands> strides;
    for (size_t i = 0; i < kOperands; ++i) {
      const auto& [name, key, dtypes, id] = operands[i];
      strides[i] = reader.integers(key, shape.size());
      for (const int64_t stride : strides[i]) {
        if (stride < 0) reader.fail("strides of at least 0", key);
      }
      *id = reader.input(name, dtypes, strided_extent(shape, strides[i], 0));
    }
    *y = reader.output("y", y_dtypes, element_count(shape));
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis] == 1) continue;
      Offsets by;
      bool merges = !shape_.empty();
      for (size_t i = 0; i < kOperands; ++i) {
        by[i] = static_cast<ptrdiff_t>(strides[i][axis]);
        merges = merges && strides_.back()[i] == by[i] * static_cast<ptrdiff_t>(shape[axis]);
      }
      if (merges) {
        shape_.back() *= shape[axis];
        strides_.back() = by;
      } else {
        shape_.push_back(shape[axis]);
        strides_.push_back(by);
      }
    }
    if (shape_.empty()) {
      shape_ = {1};
      strides_ = {{}};
    }
    for (size_t i = 0; i + 1 < shape_.size(); ++i) rows_ *= shape_[i];
  }

  /// From one element of a row to the next, in an operand.
  ptrdiff_t step(size_t operand) const { return strides_.back()[operand]; }

  /// Elements of a row.
  size_t columns() const { return shape_.back(); }

  /// Whether `operand` is the same for all rows of an axis along which everything else is dense.
  bool repeats(size_t operand) const {
    if (shape_.size() < 2) return false;
    const Offsets& by = strides_[shape_.size() - 2];
    for (size_t i = 0; i < kOperands; ++i) {
      if (step(i) != 1) return false;
      if (by[i] != (i == operand ? 0 : static_cast<ptrdiff_t>(columns()))) return false;
    }
    return true;
  }

  /// Calls rows(offsets, y_offset, row count) for up to `most` rows of the last axis but one. Needs
  /// two axes, as repeats() tells.
  template <typename Rows>
  void for_row_groups(const RunContext& context, size_t element_bytes, size_t most,
                      const Rows& rows) const {
    const size_t axis_rows = shape_[shape_.size() - 2];
    for_parts(context, rows_, columns() * element_bytes, [&](size_t first, size_t count) {
      const size_t end = first + count;
      for (size_t r = first; r < end;) {
        const size_t group = std::min({most, end - r, axis_rows - r % axis_rows});
        rows(offsets_of(r), r * columns(), group);
        r += group;
      }
    });
  }

  /// Calls row(offsets of the operands, y_offset, count) for runs of elements with these steps.
  template <typename Row>
  void for_rows(const RunContext& context, size_t element_bytes, const Row& row) const {
    if (rows_ == 0 || shape_.back() == 0) return;
    const size_t columns = shape_.back();
    if (rows_ == 1) {
      for_parts(context, columns, element_bytes, [&](size_t first, size_t count) {
        Offsets offsets;
        for (size_t i = 0; i < kOperands; ++i) offsets[i] = static_cast<ptrdiff_t>(first) * step(i);
        row(offsets, first, count);
      });
      return;
    }
    for_parts(context, rows_, columns * element_bytes, [&](size_t first, size_t count) {
      for (size_t r = first; r < first + count; ++r) row(offsets_of(r), r * columns, columns);
    });
  }

 private:
  Offsets offsets_of(size_t row) const {
    Offsets offsets = {};
    for (size_t axis = shape_.size() - 1; axis-- > 0;) {
      const ptrdiff_t index = static_cast<ptrdiff_t>(row % shape_[axis]);
      row /= shape_[axis];
      for (size_t i = 0; i < kOperands; ++i) offsets[i] += index * strides_[axis][i];
    }
    return offsets;
  }

  /// Merged axes, at least one.
  std::vector<size_t> shape_;
  std::vector<Offsets> strides_;
  size_t rows_ = 1;
};

}  // namespace q8
