// SPDX-License-Identifier: MIT
#include "ops/broadcast.h"

#include <cstdlib>

namespace q8 {
namespace {

/// Offsets beyond this cannot be inside any buffer; below it sums of 16 of them fit 64 bits.
constexpr int64_t kMaxOffset = int64_t{1} << 48;

}  // namespace

size_t strided_extent(const std::vector<size_t>& shape, const std::vector<int64_t>& strides,
                      int64_t offset) {
  int64_t lowest = offset;
  int64_t highest = offset;
  for (const size_t size : shape) {
    if (size == 0) return 0;
  }
  for (size_t i = 0; i < shape.size(); ++i) {
    // Sizes and strides are below 2^31 (StepReader), so the product fits.
    const int64_t reach = static_cast<int64_t>(shape[i] - 1) * strides[i];
    if (std::llabs(reach) > kMaxOffset) return SIZE_MAX;
    (reach < 0 ? lowest : highest) += reach;
  }
  if (lowest < 0) return SIZE_MAX;
  return static_cast<size_t>(highest) + 1;
}

std::vector<size_t> read_shape(StepReader& reader, const char* name) {
  std::vector<size_t> shape;
  for (const int64_t size : reader.integers(name)) {
    if (size < 0) reader.fail("sizes of at least 0", name);
    shape.push_back(static_cast<size_t>(size < 0 ? 0 : size));
  }
  if (shape.size() > kMaxRank) {
    reader.fail("at most 16 axes", name);
    shape.clear();
  }
  return shape;
}

size_t element_count(const std::vector<size_t>& shape) {
  size_t count = 1;
  for (const size_t size : shape) {
    if (size == 0) return 0;
  }
  for (const size_t size : shape) count = checked_product({count, size});
  return count;
}

Broadcast::Broadcast(StepReader& reader, DTypes dtypes, BufferId* a, BufferId* b, BufferId* y) {
  const std::vector<size_t> shape = read_shape(reader, "shape");
  const std::vector<int64_t> a_strides = reader.integers("aStrides", shape.size());
  const std::vector<int64_t> b_strides = reader.integers("bStrides", shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    if (a_strides[i] < 0) reader.fail("strides of at least 0", "aStrides");
    if (b_strides[i] < 0) reader.fail("strides of at least 0", "bStrides");
  }
  *a = reader.input("a", dtypes, strided_extent(shape, a_strides, 0));
  *b = reader.input("b", dtypes, strided_extent(shape, b_strides, 0));
  *y = reader.output("y", dtypes, element_count(shape));
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    const ptrdiff_t size = static_cast<ptrdiff_t>(shape[i]);
    const ptrdiff_t a_stride = static_cast<ptrdiff_t>(a_strides[i]);
    const ptrdiff_t b_stride = static_cast<ptrdiff_t>(b_strides[i]);
    if (!shape_.empty() && a_.back() == a_stride * size && b_.back() == b_stride * size) {
      shape_.back() *= shape[i];
      a_.back() = a_stride;
      b_.back() = b_stride;
    } else {
      shape_.push_back(shape[i]);
      a_.push_back(a_stride);
      b_.push_back(b_stride);
    }
  }
  if (shape_.empty()) {
    shape_ = {1};
    a_ = {0};
    b_ = {0};
  }
  rows_ = 1;
  for (size_t i = 0; i + 1 < shape_.size(); ++i) rows_ *= shape_[i];
}

}  // namespace q8
