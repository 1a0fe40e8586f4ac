// SPDX-License-Identifier: MIT
#include "ops/finish.h"

#include <utility>

#include "ops/code_params.h"

namespace q8 {
namespace {

/// Arithmetic on a code takes about as long as so many bytes of traffic.
constexpr size_t kBytesPerCode = 8;

}  // namespace

OutputRows OutputRows::read(StepReader& reader, size_t columns) {
  OutputRows rows;
  rows.stride = columns;
  if (reader.is_null("yStride")) return rows;
  rows.stride = reader.size("yStride");
  rows.offset = reader.size("yOffset");
  if (rows.stride < columns || rows.offset > rows.stride - columns)
    reader.fail("a stride that holds the columns behind yOffset", "yStride");
  return rows;
}

size_t OutputRows::extent(size_t rows, size_t columns) const {
  if (rows == 0) return 0;
  const size_t before = checked_product({rows - 1, stride});
  return before > SIZE_MAX - offset - columns ? SIZE_MAX : before + offset + columns;
}

Finish Finish::read(StepReader& reader, size_t rows, size_t columns, BufferId y) {
  Finish finish;
  finish.kernels_ = reader.table().vector;
  const DType dtype = reader.dtype(y);
  reader.for_objects("finish", [&](StepReader& part_reader) {
    Part part;
    const std::string kind = part_reader.string("kind");
    part_reader.check_input(y, "y", kCodes, 0);
    if (kind == "lut") {
      part.table = part_reader.bytes("table", 256);
      finish.parts_.push_back(std::move(part));
      return;
    }
    BinaryKind binary_kind = BinaryKind::kAdd;
    if (!binary_kind_on_codes(kind, &binary_kind)) part_reader.fail("a known kind", "kind");
    part.operand_first = part_reader.boolean("operandFirst");
    const bool repeats = part_reader.boolean("operandRepeats");
    part.operand_stride = repeats ? 0 : columns;
    part.operand =
        part_reader.input("operand", kCodes, repeats ? columns : checked_product({rows, columns}));
    const CodeParams codes =
        code_params(dtype, part_reader.scale("scale"), part_reader.zero_point("zeroPoint", y));
    const CodeParams operand =
        code_params(part_reader.dtype(part.operand), part_reader.scale("operandScale"),
                    part_reader.zero_point("operandZeroPoint", part.operand));
    const QuantizeParams result = quantize_params(dtype, part_reader.scale("yScale"),
                                                  part_reader.zero_point("yZeroPoint", y));
    if (!part_reader.ok()) return;
    part.binary = CodeBinary(*finish.kernels_, binary_kind, part.operand_first ? operand : codes,
                             part.operand_first ? codes : operand, result, rows * columns);
    finish.parts_.push_back(std::move(part));
  });
  return finish;
}

void Finish::apply(const RunContext& context, size_t row, size_t rows, size_t column,
                   size_t columns, uint8_t* y, size_t stride) const {
  for (const Part& part : parts_) {
    const uint8_t* operand = nullptr;
    if (part.table.empty())
      operand = context.data<const uint8_t>(part.operand) + row * part.operand_stride + column;
    // Dense rows are one long one.
    const bool dense = stride == columns && (operand == nullptr || part.operand_stride == columns);
    const size_t count = dense ? rows * columns : columns;
    for (size_t r = 0; r < (dense ? 1 : rows); ++r) {
      uint8_t* codes = y + r * stride;
      if (operand == nullptr) {
        kernels_->lut(count, codes, part.table.data(), codes);
        continue;
      }
      const uint8_t* other = operand + r * part.operand_stride;
      if (part.operand_first) {
        part.binary.run(count, other, 1, codes, 1, codes);
      } else {
        part.binary.run(count, codes, 1, other, 1, codes);
      }
    }
  }
}

void Finish::apply_all(const RunContext& context, size_t rows, size_t columns, uint8_t* y,
                       size_t stride) const {
  if (empty()) return;
  for_parts(context, rows, columns * kBytesPerCode, [&](size_t first, size_t count) {
    apply(context, first, count, 0, columns, y + first * stride, stride);
  });
}

}  // namespace q8
