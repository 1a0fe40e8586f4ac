// SPDX-License-Identifier: MIT
/// What becomes of the 8-bit result of a convolution or product before other steps see it: lookups
/// and binary operators, run by the vector kernels on each block of rows while it is in the cache.
/// Every intermediate code is rounded as if it were a tensor, so the bits are those of steps of
/// their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ops/code_binary.h"
#include "program/parallel.h"
#include "program/step_reader.h"

namespace q8 {

/// The operator of this name on codes (elementwise.cc). False when there is none.
bool binary_kind_on_codes(const std::string& name, BinaryKind* kind);

/// Where a matrix of results goes: rows of `columns` elements, `stride` elements apart, in buffer
/// `y`. Wider strides write a part of a concatenation.
struct OutputRows {
  size_t stride = 0;
  size_t offset = 0;

  /// Reads yStride and yOffset; dense without them.
  static OutputRows read(StepReader& reader, size_t columns);
  /// Elements that y must have; SIZE_MAX when that does not fit.
  size_t extent(size_t rows, size_t columns) const;
};

class Finish {
 public:
  /// Reads "finish" for `rows` x `columns` codes of the type of buffer `y`.
  static Finish read(StepReader& reader, size_t rows, size_t columns, BufferId y);

  bool empty() const { return parts_.empty(); }
  /// Finishes rows [row, row + rows) of columns [column, column + columns), which start at `y` and
  /// are `stride` bytes apart.
  void apply(const RunContext& context, size_t row, size_t rows, size_t column, size_t columns,
             uint8_t* y, size_t stride) const;
  /// The same for all rows, on the threads of the run. `y` is column 0 of row 0.
  void apply_all(const RunContext& context, size_t rows, size_t columns, uint8_t* y,
                 size_t stride) const;

 private:
  struct Part {
    /// 256 bytes, or empty for a binary operator.
    std::vector<uint8_t> table;
    CodeBinary binary;
    BufferId operand = 0;
    /// Elements between rows of the operand: the step's columns, or 0 where all rows read the same.
    size_t operand_stride = 0;
    bool operand_first = false;
  };

  const VectorKernels* kernels_ = nullptr;
  std::vector<Part> parts_;
};

}  // namespace q8
