// SPDX-License-Identifier: MIT
/// Two operands broadcast to one output: strides checked against the buffers, axes merged where
/// both operands allow it, and a walk over the rows that remain.
#pragma once

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

class Broadcast {
 public:
  /// Reads shape, aStrides, bStrides; checks buffers a, b and y, which may have these dtypes.
  Broadcast(StepReader& reader, DTypes dtypes, BufferId* a, BufferId* b, BufferId* y);

  ptrdiff_t a_step() const { return a_.back(); }
  ptrdiff_t b_step() const { return b_.back(); }

  /// Calls row(a_offset, b_offset, y_offset, count) for runs of elements with the steps above.
  template <typename Row>
  void for_rows(const RunContext& context, size_t element_bytes, const Row& row) const {
    if (rows_ == 0 || shape_.back() == 0) return;
    const size_t columns = shape_.back();
    if (rows_ == 1) {
      for_parts(context, columns, element_bytes, [&](size_t first, size_t count) {
        row(static_cast<ptrdiff_t>(first) * a_step(), static_cast<ptrdiff_t>(first) * b_step(),
            first, count);
      });
      return;
    }
    for_parts(context, rows_, columns * element_bytes, [&](size_t first, size_t count) {
      for (size_t r = first; r < first + count; ++r) {
        ptrdiff_t a = 0;
        ptrdiff_t b = 0;
        size_t rest = r;
        for (size_t axis = shape_.size() - 1; axis-- > 0;) {
          const ptrdiff_t index = static_cast<ptrdiff_t>(rest % shape_[axis]);
          rest /= shape_[axis];
          a += index * a_[axis];
          b += index * b_[axis];
        }
        row(a, b, r * columns, columns);
      }
    });
  }

 private:
  /// Merged axes, at least one.
  std::vector<size_t> shape_;
  std::vector<ptrdiff_t> a_;
  std::vector<ptrdiff_t> b_;
  size_t rows_ = 0;
};

}  // namespace q8
