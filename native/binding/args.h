// SPDX-License-Identifier: MIT
/// Reading of JavaScript arguments: typed arrays as bounded views, sizes as checked integers, and
/// handles, the opaque objects that own native memory. lib/ has validated everything and speaks to
/// the user; these checks keep a wrong argument from becoming a wrong memory access.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "binding/errors.h"

namespace q8 {

/// A typed array's elements. Valid while the array is alive and its buffer attached.
struct ArrayView {
  napi_typedarray_type type = napi_uint8_array;
  size_t length = 0;
  uint8_t* data = nullptr;

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  bool is_codes() const { return type == napi_uint8_array || type == napi_int8_array; }
};

/// Any typed array. @throws ERR_Q8_INVALID_ARGUMENT naming `name`.
ArrayView array_view(Napi::Env env, napi_value value, const char* name);

/// A typed array of one type.
ArrayView array_view(Napi::Env env, napi_value value, napi_typedarray_type type, const char* name);

/// A Uint8Array or Int8Array.
ArrayView codes_view(Napi::Env env, napi_value value, const char* name);

/// A JavaScript number that must be a non-negative safe integer.
size_t to_size(Napi::Env env, double value, const char* name);

/// A non-negative safe integer from a JavaScript value.
size_t to_size(Napi::Env env, const Napi::Value& value, const char* name);

/// Whether a row-major matrix with `ld` elements between rows lies inside `length` elements.
bool matrix_fits(size_t rows, size_t columns, size_t ld, size_t length);

inline bool is_absent(const Napi::Value& value) { return value.IsNull() || value.IsUndefined(); }

/// What a handle object owns. Users of the value copy the shared_ptr, so that release() never pulls
/// memory from under a running call.
template <typename T>
struct Handle {
  std::shared_ptr<const T> value;
  int64_t bytes = 0;

  void release(napi_env env) {
    if (value == nullptr) return;
    value.reset();
    int64_t total;
    napi_adjust_external_memory(env, -bytes, &total);
  }
};

/// Makes an object with `release()` that owns `value`; `bytes` is told to the garbage collector.
/// `tag` is one constant per T and keeps objects of other kinds from being taken for this one.
template <typename T>
Napi::Object make_handle(Napi::Env env, std::shared_ptr<const T> value, const napi_type_tag& tag,
                         size_t bytes) {
  Napi::Object object = Napi::Object::New(env);
  auto* handle = new Handle<T>{std::move(value), static_cast<int64_t>(bytes)};
  const auto finalize = [](napi_env finalizing, void* data, void*) {
    auto* owned = static_cast<Handle<T>*>(data);
    owned->release(finalizing);
    delete owned;
  };
  if (napi_wrap(env, object, handle, finalize, nullptr, nullptr) != napi_ok) {
    delete handle;
    throw_error(env, Code::kInternal, "Cannot wrap a native object.");
  }
  napi_type_tag_object(env, object, &tag);
  int64_t total;
  napi_adjust_external_memory(env, static_cast<int64_t>(bytes), &total);
  object.Set("bytes", Napi::Number::New(env, static_cast<double>(bytes)));
  object.Set("release", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
               void* data = nullptr;
               if (napi_unwrap(info.Env(), info.This(), &data) == napi_ok) {
                 static_cast<Handle<T>*>(data)->release(info.Env());
               }
             }));
  return object;
}

/// The value of a handle. @throws ERR_Q8_INVALID_ARGUMENT for another object, ERR_Q8_DISPOSED after
/// release().
template <typename T>
std::shared_ptr<const T> handle_value(Napi::Env env, napi_value object, const napi_type_tag& tag,
                                      const char* name) {
  bool matches = false;
  void* data = nullptr;
  if (napi_check_object_type_tag(env, object, &tag, &matches) != napi_ok || !matches ||
      napi_unwrap(env, object, &data) != napi_ok) {
    throw_error(env, Code::kInvalidArgument,
                std::string("Expected a native handle for ") + name + ".");
  }
  const auto* handle = static_cast<const Handle<T>*>(data);
  if (handle->value == nullptr)
    throw_error(env, Code::kDisposed, std::string(name) + " has been disposed.");
  return handle->value;
}

}  // namespace q8
