// SPDX-License-Identifier: MIT
#include "program/step.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/thread_pool.h"

namespace q8 {
namespace {

struct DTypeInfo {
  const char* name;
  size_t bytes;
};

/// In the order of DType.
constexpr DTypeInfo kDTypes[] = {
    {"float32", 4}, {"uint8", 1},   {"int8", 1},     {"int32", 4}, {"int64", 8},
    {"bool", 1},    {"float64", 8}, {"uint16", 2},   {"int16", 2}, {"uint32", 4},
    {"uint64", 8},  {"float16", 2}, {"bfloat16", 2},
};

}  // namespace

size_t dtype_bytes(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].bytes; }

const char* dtype_name(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

bool dtype_from_name(const char* name, DType* out) {
  for (size_t i = 0; i < std::size(kDTypes); ++i) {
    if (std::strcmp(name, kDTypes[i].name) != 0) continue;
    *out = static_cast<DType>(i);
    return true;
  }
  return false;
}

size_t RunContext::thread_count() const {
  const size_t pool = ThreadPool::instance().size();
  return threads == 0 ? pool : std::min(threads, pool);
}

}  // namespace q8
