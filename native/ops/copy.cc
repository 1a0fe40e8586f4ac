// SPDX-License-Identifier: MIT
/// Operators that only move elements, of any size: strided copies (transpose, slice, expand),
/// concatenation, padding, gathering.
#include <algorithm>
#include <array>
#include <cstring>

#include "ops/broadcast.h"
#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

/// Copies `count` elements of type T that are `stride` elements apart.
template <typename T>
void copy_strided(size_t count, const uint8_t* x, ptrdiff_t stride, uint8_t* y) {
  const T* from = reinterpret_cast<const T*>(x);
  T* to = reinterpret_cast<T*>(y);
  for (size_t i = 0; i < count; ++i) to[i] = from[static_cast<ptrdiff_t>(i) * stride];
}

/// A few bytes without a call: what repeats or interleaves pixels copies little at a time.
inline void copy_bytes(const uint8_t* x, size_t bytes, uint8_t* y) {
  if (bytes > 16) {
    std::memcpy(y, x, bytes);
  } else if (bytes < 4) {
    for (size_t i = 0; i < bytes; ++i) y[i] = x[i];
  } else if (bytes >= 8) {
    uint64_t first;
    uint64_t last;
    std::memcpy(&first, x, 8);
    std::memcpy(&last, x + bytes - 8, 8);
    std::memcpy(y, &first, 8);
    std::memcpy(y + bytes - 8, &last, 8);
  } else {
    uint32_t first;
    uint32_t last;
    std::memcpy(&first, x, 4);
    std::memcpy(&last, x + bytes - 4, 4);
    std::memcpy(y, &first, 4);
    std::memcpy(y + bytes - 4, &last, 4);
  }
}

void copy_strided(size_t bytes, size_t count, const uint8_t* x, ptrdiff_t stride, uint8_t* y) {
  if (stride == 1) return copy_bytes(x, count * bytes, y);
  switch (bytes) {
    case 1:
      return copy_strided<uint8_t>(count, x, stride, y);
    case 2:
      return copy_strided<uint16_t>(count, x, stride, y);
    case 4:
      return copy_strided<uint32_t>(count, x, stride, y);
    default:
      return copy_strided<uint64_t>(count, x, stride, y);
  }
}

/// Copies in rows of the last axis; when the last two axes are a matrix transposition, in matrices.
class StridedCopy final : public Step {
 public:
  explicit StridedCopy(StepReader& reader) : kernels_(*reader.table().vector) {
    const std::vector<size_t> shape = read_shape(reader, "shape");
    const std::vector<int64_t> strides = reader.integers("strides", shape.size());
    offset_ = reader.integer("offset", 0, INT32_MAX);
    x_ = reader.input("x", kAnyDType, strided_extent(shape, strides, offset_));
    y_ = reader.output("y", kAnyDType, element_count(shape));
    bytes_ = dtype_bytes(reader.dtype(y_));
    if (bytes_ != dtype_bytes(reader.dtype(x_)))
      reader.fail("elements of the size of x's", "y", Code::kUnsupportedDtype);
    if (!reader.ok()) return;
    elements_ = element_count(shape);
    merge_axes(shape, strides);
  }

  Status run(const RunContext& context) const override {
    if (elements_ == 0) return {};
    const uint8_t* x = context.data<const uint8_t>(x_) + offset_ * static_cast<ptrdiff_t>(bytes_);
    uint8_t* y = context.data<uint8_t>(y_);
    if (is_matrix_transpose()) {
      transpose_matrices(context, x, y);
      return {};
    }
    const size_t columns = shape_.back();
    for_parts(context, elements_ / columns, columns * bytes_ * 2, [&](size_t first, size_t count) {
      // Counts through the axes of the rows: dividing for each would take longer than short copies.
      std::array<size_t, kMaxRank> index = {};
      const size_t axes = shape_.size() - 1;
      for (size_t axis = axes, rest = first; axis-- > 0; rest /= shape_[axis])
        index[axis] = rest % shape_[axis];
      ptrdiff_t offset = row_offset(first, 1);
      for (size_t r = first; r < first + count; ++r) {
        copy_strided(bytes_, columns, x + offset * static_cast<ptrdiff_t>(bytes_), strides_.back(),
                     y + r * columns * bytes_);
        for (size_t axis = axes; axis-- > 0;) {
          offset += strides_[axis];
          if (++index[axis] < shape_[axis]) break;
          offset -= static_cast<ptrdiff_t>(shape_[axis]) * strides_[axis];
          index[axis] = 0;
        }
      }
    });
    return {};
  }

 private:
  void merge_axes(const std::vector<size_t>& shape, const std::vector<int64_t>& strides) {
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 1) continue;
      const ptrdiff_t stride = static_cast<ptrdiff_t>(strides[i]);
      if (!shape_.empty() && strides_.back() == stride * static_cast<ptrdiff_t>(shape[i])) {
        shape_.back() *= shape[i];
        strides_.back() = stride;
      } else {
        shape_.push_back(shape[i]);
        strides_.push_back(stride);
      }
    }
    if (shape_.empty()) {
      shape_ = {1};
      strides_ = {1};
    }
  }

  /// Element offset in x of row r, a row being the last `inner_axes` axes.
  ptrdiff_t row_offset(size_t r, size_t inner_axes) const {
    ptrdiff_t offset = 0;
    for (size_t axis = shape_.size() - inner_axes; axis-- > 0;) {
      offset += static_cast<ptrdiff_t>(r % shape_[axis]) * strides_[axis];
      r /= shape_[axis];
    }
    return offset;
  }

  bool is_matrix_transpose() const {
    return shape_.size() >= 2 && (bytes_ == 1 || bytes_ == 4) && strides_[shape_.size() - 2] == 1 &&
           strides_.back() > 1;
  }

  void transpose_matrices(const RunContext& context, const uint8_t* x, uint8_t* y) const {
    const size_t rows = shape_.back();
    const size_t cols = shape_[shape_.size() - 2];
    const size_t matrices = elements_ / (rows * cols);
    const size_t x_stride = static_cast<size_t>(strides_.back());
    // Bands of columns of x, which are whole rows of y.
    constexpr size_t kBand = 64;
    const size_t bands = (cols + kBand - 1) / kBand;
    for_parts(
        context, matrices * bands, kBand * rows * bytes_ * 2, [&](size_t first, size_t count) {
          for (size_t i = first; i < first + count; ++i) {
            const size_t col = i % bands * kBand;
            const size_t live = std::min(kBand, cols - col);
            const uint8_t* from = x + (row_offset(i / bands, 2) + static_cast<ptrdiff_t>(col)) *
                                          static_cast<ptrdiff_t>(bytes_);
            uint8_t* to = y + (i / bands * rows * cols + col * rows) * bytes_;
            if (bytes_ == 1) {
              kernels_.transpose_8(rows, live, from, x_stride, to, rows);
            } else {
              kernels_.transpose_32(rows, live, reinterpret_cast<const uint32_t*>(from), x_stride,
                                    reinterpret_cast<uint32_t*>(to), rows);
            }
          }
        });
  }

  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t bytes_ = 1;
  size_t elements_ = 0;
  ptrdiff_t offset_ = 0;
  /// Merged axes of the output with their strides in x, at least one.
  std::vector<size_t> shape_;
  std::vector<ptrdiff_t> strides_;
};

class Concat final : public Step {
 public:
  explicit Concat(StepReader& reader) : kernels_(*reader.table().vector) {
    outer_ = reader.size("outer");
    const std::vector<BufferId> inputs = reader.inputs("inputs");
    const std::vector<int64_t> inners = reader.integers("inners", inputs.size());
    const std::vector<int64_t> offsets = reader.integers("offsets", inputs.size());
    row_ = reader.size("row");
    std::vector<ArrayCopy> tables = reader.arrays("tables");
    if (tables.size() != inputs.size())
      reader.fail("one element per input", "tables", Code::kShapeMismatch);
    if (!reader.ok()) return;
    y_ = reader.output("y", kAnyDType, 0);
    const DType dtype = reader.dtype(y_);
    bytes_ = dtype_bytes(dtype);
    for (size_t i = 0; i < inputs.size(); ++i) {
      Part part;
      if (inners[i] < 0) reader.fail("sizes of at least 0", "inners");
      if (offsets[i] < 0) reader.fail("offsets of at least 0", "offsets");
      part.offset = static_cast<size_t>(std::max<int64_t>(offsets[i], 0));
      part.x = inputs[i];
      part.inner = static_cast<size_t>(std::max<int64_t>(inners[i], 0));
      part.table = std::move(tables[i].bytes);
      reader.check_input(part.x, "inputs", kAnyDType, checked_product({outer_, part.inner}));
      if (part.table.empty()) {
        if (reader.dtype(part.x) != dtype)
          reader.fail("inputs of y's dtype", "inputs", Code::kUnsupportedDtype);
      } else {
        if (part.table.size() != 256 || tables[i].dtype != DType::kUint8)
          reader.fail("tables of 256 bytes", "tables");
        reader.check_input(part.x, "inputs", kCodes, 0);
        reader.check_input(y_, "y", kCodes, 0);
      }
      if (part.inner > row_ || part.offset > row_ - part.inner)
        reader.fail("inputs that fit into the row", "row");
      parts_.push_back(std::move(part));
    }
    reader.check_input(y_, "y", kAnyDType, checked_product({outer_, row_}));
  }

  Status run(const RunContext& context) const override {
    for_parts(context, outer_, row_ * bytes_ * 2, [&](size_t first, size_t count) {
      for (size_t o = first; o < first + count; ++o) {
        uint8_t* row = context.data<uint8_t>(y_) + o * row_ * bytes_;
        for (const Part& part : parts_) {
          const size_t bytes = part.inner * bytes_;
          if (bytes == 0) continue;
          uint8_t* y = row + part.offset * bytes_;
          const uint8_t* x = context.data<const uint8_t>(part.x) + o * bytes;
          if (part.table.empty()) {
            std::memcpy(y, x, bytes);
          } else {
            kernels_.lut(bytes, x, part.table.data(), y);
          }
        }
      }
    });
    return {};
  }

 private:
  struct Part {
    BufferId x = 0;
    size_t inner = 0;
    size_t offset = 0;
    std::vector<uint8_t> table;
  };

  const VectorKernels& kernels_;
  size_t outer_ = 0;
  size_t bytes_ = 1;
  /// Elements of one row of the output.
  size_t row_ = 0;
  BufferId y_ = 0;
  std::vector<Part> parts_;
};

class Pad final : public Step {
 public:
  explicit Pad(StepReader& reader) {
    shape_ = read_shape(reader, "shape");
    begins_ = reader.integers("begins", shape_.size());
    out_shape_ = read_shape(reader, "outShape");
    if (out_shape_.size() != shape_.size())
      reader.fail("the rank of shape", "outShape", Code::kShapeMismatch);
    x_ = reader.input("x", kAnyDType, element_count(shape_));
    y_ = reader.output("y", kAnyDType, element_count(out_shape_));
    if (!reader.ok()) return;
    if (reader.dtype(x_) != reader.dtype(y_))
      reader.fail("the dtype of x", "y", Code::kUnsupportedDtype);
    value_ = reader.bytes("value", dtype_bytes(reader.dtype(y_)));
    if (shape_.empty()) {
      shape_ = {1};
      begins_ = {0};
      out_shape_ = {1};
    }
  }

  Status run(const RunContext& context) const override {
    const size_t columns = out_shape_.back();
    const size_t elements = element_count(out_shape_);
    if (elements == 0) return {};
    const size_t bytes = value_.size();
    const uint8_t* x = context.data<const uint8_t>(x_);
    uint8_t* y = context.data<uint8_t>(y_);
    const int64_t begin = begins_.back();
    const int64_t in_columns = static_cast<int64_t>(shape_.back());
    const int64_t first_copied = std::clamp<int64_t>(begin, 0, static_cast<int64_t>(columns));
    const int64_t end_copied =
        std::clamp<int64_t>(begin + in_columns, first_copied, static_cast<int64_t>(columns));
    const size_t left = static_cast<size_t>(first_copied);
    const size_t copied = static_cast<size_t>(end_copied - first_copied);
    for_parts(context, elements / columns, columns * bytes * 2, [&](size_t first, size_t count) {
      for (size_t r = first; r < first + count; ++r) {
        uint8_t* row = y + r * columns * bytes;
        const int64_t source = source_row(r);
        if (source < 0 || copied == 0) {
          fill(row, columns);
          continue;
        }
        fill(row, left);
        std::memcpy(row + left * bytes,
                    x + static_cast<size_t>(source * in_columns + first_copied - begin) * bytes,
                    copied * bytes);
        fill(row + (left + copied) * bytes, columns - left - copied);
      }
    });
    return {};
  }

 private:
  /// Row of x that output row r copies from, or -1 if it lies in the padding.
  int64_t source_row(size_t r) const {
    int64_t row = 0;
    int64_t stride = 1;
    for (size_t axis = shape_.size() - 1; axis-- > 0;) {
      const int64_t index = static_cast<int64_t>(r % out_shape_[axis]) - begins_[axis];
      r /= out_shape_[axis];
      if (index < 0 || index >= static_cast<int64_t>(shape_[axis])) return -1;
      row += index * stride;
      stride *= static_cast<int64_t>(shape_[axis]);
    }
    return row;
  }

  void fill(uint8_t* to, size_t count) const {
    const size_t bytes = value_.size();
    if (bytes == 1) {
      std::memset(to, value_[0], count);
      return;
    }
    for (size_t i = 0; i < count; ++i) std::memcpy(to + i * bytes, value_.data(), bytes);
  }

  BufferId x_ = 0;
  BufferId y_ = 0;
  std::vector<size_t> shape_;
  std::vector<int64_t> begins_;
  std::vector<size_t> out_shape_;
  std::vector<uint8_t> value_;
};

/// Reads x, outer, axisSize and inner of a gather, whose y has `count` indices; the dtypes of x and
/// y must be the same.
struct GatherShape {
  BufferId x = 0;
  BufferId y = 0;
  size_t outer = 0;
  size_t axis = 0;
  size_t row_bytes = 0;

  GatherShape(StepReader& reader, size_t count) {
    outer = reader.size("outer");
    axis = reader.size("axisSize");
    const size_t inner = reader.size("inner");
    x = reader.input("x", kAnyDType, checked_product({outer, axis, inner}));
    y = reader.output("y", kAnyDType, checked_product({outer, count, inner}));
    if (reader.dtype(x) != reader.dtype(y))
      reader.fail("the dtype of x", "y", Code::kUnsupportedDtype);
    row_bytes = checked_product({inner, dtype_bytes(reader.dtype(x))});
  }

  /// Copies row index_of(i) for each of `count` indices, for all outer blocks.
  template <typename IndexOf>
  void copy(const RunContext& context, size_t count, const IndexOf& index_of) const {
    if (count == 0 || row_bytes == 0) return;
    const uint8_t* from = context.data<const uint8_t>(x);
    uint8_t* to = context.data<uint8_t>(y);
    for_parts(context, outer * count, row_bytes * 2, [&](size_t first, size_t rows) {
      for (size_t r = first; r < first + rows; ++r) {
        std::memcpy(to + r * row_bytes, from + (r / count * axis + index_of(r % count)) * row_bytes,
                    row_bytes);
      }
    });
  }
};

class Gather final : public Step {
 public:
  explicit Gather(StepReader& reader)
      : indices_(reader.int32s("indices")), shape_(reader, indices_.size()) {
    for (const int32_t index : indices_) {
      if (index < 0 || static_cast<size_t>(index) >= shape_.axis)
        reader.fail("indices below axisSize", "indices");
    }
  }

  Status run(const RunContext& context) const override {
    shape_.copy(context, indices_.size(),
                [this](size_t i) { return static_cast<size_t>(indices_[i]); });
    return {};
  }

 private:
  std::vector<int32_t> indices_;
  GatherShape shape_;
};

class GatherDynamic final : public Step {
 public:
  explicit GatherDynamic(StepReader& reader)
      : count_(reader.size("count")), shape_(reader, count_) {
    indices_ = reader.input("indices", {DType::kInt64, DType::kInt32}, count_);
    wide_ = reader.dtype(indices_) == DType::kInt64;
  }

  size_t scratch_bytes() const override { return count_ * sizeof(size_t); }

  Status run(const RunContext& context) const override {
    // The checked copy is what gets used: an input in shared memory could change after the check.
    size_t* rows = reinterpret_cast<size_t*>(context.scratch);
    for (size_t i = 0; i < count_; ++i) {
      int64_t index = wide_ ? context.data<const int64_t>(indices_)[i]
                            : context.data<const int32_t>(indices_)[i];
      const int64_t axis = static_cast<int64_t>(shape_.axis);
      if (index < -axis || index >= axis) {
        return {Code::kInvalidArgument, "Expected indices from " + std::to_string(-axis) + " to " +
                                            std::to_string(axis - 1) + " but received " +
                                            std::to_string(index) + "."};
      }
      rows[i] = static_cast<size_t>(index < 0 ? index + axis : index);
    }
    shape_.copy(context, count_, [rows](size_t i) { return rows[i]; });
    return {};
  }

 private:
  size_t count_;
  GatherShape shape_;
  BufferId indices_ = 0;
  bool wide_ = false;
};

}  // namespace

std::unique_ptr<Step> make_strided_copy(StepReader& reader) {
  return std::make_unique<StridedCopy>(reader);
}
std::unique_ptr<Step> make_concat(StepReader& reader) { return std::make_unique<Concat>(reader); }
std::unique_ptr<Step> make_pad(StepReader& reader) { return std::make_unique<Pad>(reader); }
std::unique_ptr<Step> make_gather(StepReader& reader) { return std::make_unique<Gather>(reader); }
std::unique_ptr<Step> make_gather_dynamic(StepReader& reader) {
  return std::make_unique<GatherDynamic>(reader);
}

}  // namespace q8
