// SPDX-License-Identifier: MIT
#include "binding/args.h"

#include <cmath>
#include <string>

namespace q8 {

ArrayView array_view(Napi::Env env, napi_value value, const char* name) {
  ArrayView view;
  void* data = nullptr;
  // The buffer itself is not asked for: it may be a SharedArrayBuffer, which Node-API has no handle
  // for.
  if (napi_get_typedarray_info(env, value, &view.type, &view.length, &data, nullptr, nullptr) !=
      napi_ok) {
    throw_error(env, Code::kInvalidArgument,
                std::string("Expected a typed array for ") + name + ".");
  }
  view.data = static_cast<uint8_t*>(data);
  return view;
}

ArrayView array_view(Napi::Env env, napi_value value, napi_typedarray_type type, const char* name) {
  const ArrayView view = array_view(env, value, name);
  if (view.type != type) {
    throw_error(env, Code::kInvalidArgument,
                std::string("Expected another element type for ") + name + ".");
  }
  return view;
}

ArrayView codes_view(Napi::Env env, napi_value value, const char* name) {
  const ArrayView view = array_view(env, value, name);
  if (!view.is_codes()) {
    throw_error(env, Code::kInvalidArgument,
                std::string("Expected a Uint8Array or Int8Array for ") + name + ".");
  }
  return view;
}

size_t to_size(Napi::Env env, double value, const char* name) {
  constexpr double kMaxSafeInteger = 9007199254740991.0;
  if (!(value >= 0 && value <= kMaxSafeInteger) || value != std::floor(value)) {
    throw_error(env, Code::kInvalidArgument,
                std::string("Expected a non-negative integer for ") + name + ".");
  }
  return static_cast<size_t>(value);
}

size_t to_size(Napi::Env env, const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) {
    throw_error(env, Code::kInvalidArgument, std::string("Expected a number for ") + name + ".");
  }
  return to_size(env, value.As<Napi::Number>().DoubleValue(), name);
}

bool matrix_fits(size_t rows, size_t columns, size_t ld, size_t length) {
  if (rows == 0 || columns == 0) return true;
  if (ld < columns || length < columns) return false;
  return rows - 1 <= (length - columns) / ld;
}

}  // namespace q8
