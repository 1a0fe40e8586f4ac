// SPDX-License-Identifier: MIT
#include "program/step_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace q8 {

size_t checked_product(std::initializer_list<size_t> factors) {
  size_t product = 1;
  bool overflow = false;
  for (const size_t factor : factors) {
    if (factor == 0) return 0;
    overflow |= product > SIZE_MAX / factor;
    product *= factor;
  }
  return overflow ? SIZE_MAX : product;
}

void StepReader::fail(const std::string& rule, const char* name, Code code) {
  if (status_.ok()) status_ = Status(code, "Expected " + rule + " for " + name + ".");
}

size_t StepReader::size(const char* name, size_t min) {
  double value;
  if (!fields_.number(name, &value) || !(value >= static_cast<double>(min)) || value > INT32_MAX ||
      value != std::floor(value)) {
    fail("an integer of at least " + std::to_string(min), name);
    return min;
  }
  return static_cast<size_t>(value);
}

int32_t StepReader::integer(const char* name, int32_t min, int32_t max) {
  double value;
  if (!fields_.number(name, &value) || !(value >= min && value <= max) ||
      value != std::floor(value)) {
    fail("an integer from " + std::to_string(min) + " to " + std::to_string(max), name);
    return min;
  }
  return static_cast<int32_t>(value);
}

float StepReader::bound(const char* name) {
  double value;
  if (!fields_.number(name, &value) || std::isnan(value)) {
    fail("a number", name);
    return 0;
  }
  return static_cast<float>(value);
}

float StepReader::real(const char* name) {
  const float value = bound(name);
  if (!std::isfinite(value)) fail("a finite number", name);
  return value;
}

float StepReader::scale(const char* name) {
  const float value = bound(name);
  if (!(value > 0) || !std::isfinite(value)) fail("a finite number above 0", name);
  return value;
}

bool StepReader::boolean(const char* name) {
  bool value = false;
  if (!fields_.boolean(name, &value)) fail("a boolean", name);
  return value;
}

std::string StepReader::string(const char* name) {
  std::string value;
  if (!fields_.string(name, &value)) fail("a string", name);
  return value;
}

std::vector<int64_t> StepReader::integers(const char* name) {
  std::vector<double> values;
  if (!fields_.numbers(name, &values)) fail("an array of numbers", name);
  std::vector<int64_t> out;
  out.reserve(values.size());
  for (const double value : values) {
    if (!(std::fabs(value) <= INT32_MAX) || value != std::floor(value)) {
      fail("32-bit integers", name);
      return {};
    }
    out.push_back(static_cast<int64_t>(value));
  }
  return out;
}

std::vector<int64_t> StepReader::integers(const char* name, size_t count) {
  std::vector<int64_t> values = integers(name);
  if (values.size() != count) {
    fail(std::to_string(count) + " elements", name, Code::kShapeMismatch);
    values.assign(count, 0);
  }
  return values;
}

template <typename T>
std::vector<T> StepReader::typed(const char* name, DType dtype) {
  ArrayCopy copy;
  if (!fields_.array(name, &copy) || copy.dtype != dtype) {
    fail(std::string("a typed array of ") + dtype_name(dtype), name);
    return {};
  }
  std::vector<T> out(copy.length());
  if (!out.empty()) std::memcpy(out.data(), copy.bytes.data(), copy.bytes.size());
  return out;
}

namespace {

template <typename T>
void require_count(StepReader* reader, const char* name, size_t count, std::vector<T>* values) {
  if (values->size() == count) return;
  reader->fail(std::to_string(count) + " elements", name, Code::kShapeMismatch);
  values->clear();
}

}  // namespace

std::vector<float> StepReader::floats(const char* name, size_t count) {
  std::vector<float> values = typed<float>(name, DType::kFloat32);
  require_count(this, name, count, &values);
  return values;
}

std::vector<float> StepReader::optional_floats(const char* name, size_t count) {
  return is_null(name) ? std::vector<float>() : floats(name, count);
}

std::vector<float> StepReader::scales(const char* name, size_t count) {
  std::vector<float> values = floats(name, count);
  for (const float value : values) {
    if (!(value > 0) || !std::isfinite(value)) fail("finite numbers above 0", name);
  }
  return values;
}

std::vector<int32_t> StepReader::int32s(const char* name) {
  return typed<int32_t>(name, DType::kInt32);
}

std::vector<int32_t> StepReader::int32s(const char* name, size_t count) {
  std::vector<int32_t> values = int32s(name);
  require_count(this, name, count, &values);
  return values;
}

std::vector<uint8_t> StepReader::bytes(const char* name, size_t count) {
  std::vector<uint8_t> values = typed<uint8_t>(name, DType::kUint8);
  require_count(this, name, count, &values);
  return values;
}

std::vector<ArrayCopy> StepReader::arrays(const char* name) {
  std::vector<ArrayCopy> values;
  if (!fields_.arrays(name, &values)) fail("an array of typed arrays and nulls", name);
  return values;
}

BufferId StepReader::buffer_id(double value, const char* name) {
  if (!(value >= 0 && value < static_cast<double>(buffers_.size())) || value != std::floor(value)) {
    fail("the index of a buffer", name);
    return 0;
  }
  return static_cast<BufferId>(value);
}

void StepReader::check_input(BufferId id, const char* name, DTypes dtypes, size_t elements) {
  if (!ok()) return;
  const BufferInfo& buffer = buffers_[id];
  if (!dtypes.has(buffer.dtype)) {
    fail(std::string("another dtype than ") + dtype_name(buffer.dtype), name,
         Code::kUnsupportedDtype);
  } else if (buffer.elements < elements) {
    fail("a buffer of at least " + std::to_string(elements) + " elements (it has " +
             std::to_string(buffer.elements) + ")",
         name, Code::kShapeMismatch);
  }
}

BufferId StepReader::input(const char* name, DTypes dtypes, size_t elements) {
  double value = -1;
  fields_.number(name, &value);
  const BufferId id = buffer_id(value, name);
  check_input(id, name, dtypes, elements);
  return id;
}

BufferId StepReader::output(const char* name, DTypes dtypes, size_t elements) {
  const BufferId id = input(name, dtypes, elements);
  if (!ok()) return id;
  const Place place = buffers_[id].place;
  if (place != Place::kOutput && place != Place::kArena) fail("an output or arena buffer", name);
  return id;
}

std::vector<BufferId> StepReader::inputs(const char* name) {
  std::vector<double> values;
  if (!fields_.numbers(name, &values)) fail("an array of buffers", name);
  std::vector<BufferId> ids;
  ids.reserve(values.size());
  for (const double value : values) ids.push_back(buffer_id(value, name));
  return ids;
}

Weights StepReader::weights(const char* name) {
  Weights weights;
  if (!fields_.weights(name, &weights)) fail("packed weights", name);
  return weights;
}

void StepReader::for_objects(const char* name, const std::function<void(StepReader&)>& read) {
  if (is_null(name)) return;
  std::vector<std::unique_ptr<Fields>> objects;
  if (!fields_.objects(name, &objects)) fail("an array of objects", name);
  for (const std::unique_ptr<Fields>& object : objects) {
    StepReader reader(*object, buffers_, table_);
    read(reader);
    if (status_.ok() && !reader.ok()) {
      status_ = Status(reader.status().code(),
                       "In " + std::string(name) + ": " + reader.status().message());
    }
  }
}

int32_t StepReader::zero_point(const char* name, BufferId id) {
  return is_signed(id) ? integer(name, -128, 127) : integer(name, 0, 255);
}

/// Keeps a scalar scale of an absurd description from being repeated through all of the memory.
constexpr size_t kMaxColumns = size_t{1} << 26;

OutputSpec StepReader::output_spec(size_t columns, size_t elements, BufferId* y) {
  OutputSpec spec;
  const std::unique_ptr<Fields> object = fields_.object("output");
  if (object == nullptr) {
    fail("an object", "output");
    return spec;
  }
  if (columns > kMaxColumns) {
    fail("fewer output columns", "output");
    return spec;
  }
  StepReader reader(*object, buffers_, table_);
  const std::string kind = reader.string("kind");
  const auto per_column = [&](const char* name) {
    std::vector<float> values = reader.typed<float>(name, DType::kFloat32);
    for (const float value : values) {
      if (!std::isfinite(value)) reader.fail("finite numbers", name);
    }
    if (values.size() == 1) values.assign(columns, values[0]);
    require_count(&reader, name, columns, &values);
    return values;
  };
  if (kind == "requantize") {
    spec.scale = per_column("multiplier");
    *y = output("y", kCodes, elements);
    spec.kind = is_signed(*y) ? OutKind::kS8 : OutKind::kU8;
    spec.zero_point = reader.zero_point("zeroPoint", *y);
    const int32_t min = reader.zero_point("min", *y);
    const int32_t max = reader.zero_point("max", *y);
    if (min > max) reader.fail("a value of at least min", "max");
    spec.lo = static_cast<float>(min - spec.zero_point);
    spec.hi = static_cast<float>(max - spec.zero_point);
  } else if (kind == "dequantize") {
    spec.kind = OutKind::kF32;
    spec.scale = per_column("scale");
    spec.float_bias = reader.optional_floats("bias", columns);
    *y = output("y", kFloat, elements);
  } else if (kind == "int32") {
    spec.kind = OutKind::kS32;
    *y = output("y", {DType::kInt32}, elements);
  } else {
    reader.fail("'requantize', 'dequantize' or 'int32'", "kind");
  }
  if (spec.kind != OutKind::kF32 && !reader.is_null("bias"))
    spec.bias = reader.int32s("bias", columns);
  if (status_.ok() && !reader.ok())
    status_ = Status(reader.status().code(), "In output: " + reader.status().message());
  return spec;
}

Columns::Columns(const OutputSpec& spec, size_t first, const PackedB& b, int32_t a_zero_point,
                 bool a_signed)
    : bias(b.padded_n()) {
  fold_bias(b, a_zero_point, a_signed, spec.bias.empty() ? nullptr : spec.bias.data() + first,
            bias.data());
  copy_scales(spec, first, b.n(), b.padded_n());
}

Columns::Columns(const OutputSpec& spec, size_t first, size_t count,
                 std::vector<int32_t> folded_bias)
    : bias(std::move(folded_bias)) {
  copy_scales(spec, first, count, bias.size());
}

void Columns::copy_scales(const OutputSpec& spec, size_t first, size_t count, size_t padded) {
  const auto copy = [&](const std::vector<float>& from, std::vector<float>* to) {
    if (from.empty()) return;
    to->assign(padded, 0.0f);
    std::copy_n(from.begin() + static_cast<ptrdiff_t>(first), count, to->begin());
  };
  copy(spec.scale, &scale);
  scales_below_one = are_below_one(scale.data(), scale.size());
  copy(spec.float_bias, &float_bias);
}

Epilogue Columns::epilogue(const OutputSpec& spec) const {
  Epilogue e = {};
  e.kind = spec.kind;
  e.bias = bias.data();
  e.scale = scale.empty() ? nullptr : scale.data();
  e.float_bias = float_bias.empty() ? nullptr : float_bias.data();
  e.lo = spec.lo;
  e.hi = spec.hi;
  e.zero_point = spec.zero_point;
  e.scales_below_one = scales_below_one;
  return e;
}

}  // namespace q8
