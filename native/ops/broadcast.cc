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

}  // namespace q8
