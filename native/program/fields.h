// SPDX-License-Identifier: MIT
/// Read access to one object of a program description, whatever language it comes from:
/// native/binding implements it over a JavaScript object, so that the steps' factories know nothing
/// of Node-API. Every method returns false when the property is absent or of another kind; arrays
/// are copied, because nothing may change after it was checked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conv/packed_conv.h"
#include "gemm/gemm.h"
#include "ops/float_gemm.h"
#include "program/step.h"

namespace q8 {

/// A copy of a typed array. Float16, bfloat16 and bool arrays appear as the uint16 and uint8 arrays
/// that store them.
struct ArrayCopy {
  DType dtype = DType::kUint8;
  std::vector<uint8_t> bytes;

  size_t length() const { return bytes.size() / dtype_bytes(dtype); }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

/// Packed weights; the one that the object holds is set.
struct Weights {
  std::shared_ptr<const PackedB> gemm;
  std::shared_ptr<const PackedConv> conv;
  std::shared_ptr<const PackedBF32> gemm_f32;
  std::shared_ptr<const PackedConvF32> conv_f32;
};

class Fields {
 public:
  virtual ~Fields() = default;
  /// Null, undefined or absent.
  virtual bool is_null(const char* name) const = 0;
  virtual bool number(const char* name, double* out) const = 0;
  virtual bool boolean(const char* name, bool* out) const = 0;
  virtual bool string(const char* name, std::string* out) const = 0;
  /// An array of numbers.
  virtual bool numbers(const char* name, std::vector<double>* out) const = 0;
  virtual bool array(const char* name, ArrayCopy* out) const = 0;
  /// An array of typed arrays and nulls (which give empty copies).
  virtual bool arrays(const char* name, std::vector<ArrayCopy>* out) const = 0;
  virtual bool weights(const char* name, Weights* out) const = 0;
  virtual std::unique_ptr<Fields> object(const char* name) const = 0;
  /// An array of objects.
  virtual bool objects(const char* name, std::vector<std::unique_ptr<Fields>>* out) const = 0;
};

}  // namespace q8
