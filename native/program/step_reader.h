// SPDX-License-Identifier: MIT
/// Reads and checks the properties of one step. Errors are sticky: the first one is kept, later
/// reads return harmless values (0, empty, buffer 0), and the factory looks at ok() before it uses
/// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "gemm/gemm.h"
#include "program/fields.h"
#include "program/step.h"

namespace q8 {

/// Product of sizes, SIZE_MAX when it does not fit.
size_t checked_product(std::initializer_list<size_t> factors);

/// A set of dtypes.
class DTypes {
 public:
  constexpr DTypes(std::initializer_list<DType> list) : bits_(0) {
    for (const DType dtype : list) bits_ |= 1u << static_cast<unsigned>(dtype);
  }
  constexpr bool has(DType dtype) const {
    return (bits_ >> static_cast<unsigned>(dtype) & 1u) != 0;
  }

 private:
  uint32_t bits_;
};

inline constexpr DTypes kFloat = {DType::kFloat32};
inline constexpr DTypes kCodes = {DType::kUint8, DType::kInt8};
inline constexpr DTypes kAnyDType = {
    DType::kFloat32, DType::kUint8,   DType::kInt8,    DType::kInt32, DType::kInt64,
    DType::kBool,    DType::kFloat64, DType::kUint16,  DType::kInt16, DType::kUint32,
    DType::kUint64,  DType::kFloat16, DType::kBfloat16};

/// OutputSpec of binding.d.ts for `columns` columns: what becomes of int32 accumulators.
struct OutputSpec {
  OutKind kind = OutKind::kS32;
  /// Multipliers (requantize) or scales (dequantize), one per column.
  std::vector<float> scale;
  /// One per column, or empty.
  std::vector<int32_t> bias;
  std::vector<float> float_bias;
  float lo = 0;
  float hi = 0;
  int32_t zero_point = 0;
};

class StepReader {
 public:
  StepReader(const Fields& fields, const std::vector<BufferInfo>& buffers, const KernelTable& table)
      : fields_(fields), buffers_(buffers), table_(table) {}

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  const KernelTable& table() const { return table_; }

  /// Keeps the first error: `Expected <rule> for <name>.`
  void fail(const std::string& rule, const char* name, Code code = Code::kInvalidArgument);

  /// An integer in [min, 2^31).
  size_t size(const char* name, size_t min = 0);
  int32_t integer(const char* name, int32_t min, int32_t max);
  /// A finite number, rounded to float32.
  float real(const char* name);
  /// A finite number that is > 0 as float32.
  float scale(const char* name);
  /// Any number but NaN.
  float bound(const char* name);
  bool boolean(const char* name);
  std::string string(const char* name);
  bool is_null(const char* name) const { return fields_.is_null(name); }

  /// Arrays of exactly `count` elements.
  std::vector<int64_t> integers(const char* name, size_t count);
  std::vector<int64_t> integers(const char* name);
  std::vector<float> floats(const char* name, size_t count);
  /// Finite and > 0.
  std::vector<float> scales(const char* name, size_t count);
  std::vector<int32_t> int32s(const char* name, size_t count);
  std::vector<int32_t> int32s(const char* name);
  std::vector<uint8_t> bytes(const char* name, size_t count);
  std::vector<ArrayCopy> arrays(const char* name);
  std::vector<float> optional_floats(const char* name, size_t count);

  /// A buffer of at least `elements` elements that the step reads or writes.
  BufferId input(const char* name, DTypes dtypes, size_t elements);
  BufferId output(const char* name, DTypes dtypes, size_t elements);
  /// The array of buffer ids, each checked by check_input.
  std::vector<BufferId> inputs(const char* name);
  void check_input(BufferId id, const char* name, DTypes dtypes, size_t elements);
  const BufferInfo& info(BufferId id) const { return buffers_[id]; }
  DType dtype(BufferId id) const { return buffers_.empty() ? DType::kUint8 : buffers_[id].dtype; }
  bool is_signed(BufferId id) const { return dtype(id) == DType::kInt8; }

  Weights weights(const char* name);

  /// Calls read(reader) for every object of an array; absent means none. Errors are kept with the
  /// array's name.
  void for_objects(const char* name, const std::function<void(StepReader&)>& read);

  /// A zero point of the type of buffer `id` (uint8 or int8).
  int32_t zero_point(const char* name, BufferId id);

  /// Reads `output` and then buffer `y`, whose dtype must suit it.
  OutputSpec output_spec(size_t columns, size_t elements, BufferId* y);

 private:
  BufferId buffer_id(double value, const char* name);
  template <typename T>
  std::vector<T> typed(const char* name, DType dtype);

  const Fields& fields_;
  const std::vector<BufferInfo>& buffers_;
  const KernelTable& table_;
  Status status_;
};

/// Per-column arrays of an epilogue, padded to whole panels. The epilogue points into them.
struct Columns {
  std::vector<int32_t> bias;
  std::vector<float> scale;
  std::vector<float> float_bias;
  bool scales_below_one = false;

  /// Columns [first, first + b.n()) of `spec` for a product with `b`; a_zero_point as the user gave
  /// it.
  Columns(const OutputSpec& spec, size_t first, const PackedB& b, int32_t a_zero_point,
          bool a_signed);
  /// The same with an explicit folded bias of `padded` columns, of which `count` exist.
  Columns(const OutputSpec& spec, size_t first, size_t count, std::vector<int32_t> folded_bias);

  Epilogue epilogue(const OutputSpec& spec) const;

 private:
  void copy_scales(const OutputSpec& spec, size_t first, size_t count, size_t padded);
};

}  // namespace q8
