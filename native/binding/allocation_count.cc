// SPDX-License-Identifier: MIT
/// Counts the allocations in scopes of SteadyState. Where Q8_COUNT_ALLOCATIONS is defined, the
/// linker sends the addon's own calls of the allocation functions through the wrappers below
/// (--wrap): unlike replaced operators, that cannot touch Node.js or other addons. What the C++
/// library allocates inside its own binary, such as a longer std::string, is not seen.
#include "binding/allocation_count.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "core/steady_state.h"

namespace q8 {
namespace {

std::atomic<uint64_t> count{0};

/// allocationCount(). Thread: JS.
Napi::Value allocation_count(const Napi::CallbackInfo& info) {
#if defined(Q8_COUNT_ALLOCATIONS)
  return Napi::Number::New(info.Env(), static_cast<double>(count.load(std::memory_order_relaxed)));
#else
  return info.Env().Null();
#endif
}

[[maybe_unused]] void note_allocation() {
  if (SteadyState::is_inside()) count.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void InitAllocationCount(Napi::Env env, Napi::Object exports) {
  exports.Set("allocationCount", Napi::Function::New(env, allocation_count, "allocationCount"));
}

}  // namespace q8

#if defined(Q8_COUNT_ALLOCATIONS)
/// The linker makes these names: `name` becomes __wrap_name for callers, and __real_name is what
/// `name` was.
#define Q8_WRAP(name, parameters, arguments)  \
  extern "C" void* __real_##name parameters;  \
  extern "C" void* __wrap_##name parameters { \
    q8::note_allocation();                    \
    return __real_##name arguments;           \
  }

Q8_WRAP(_Znwm, (size_t bytes), (bytes))
Q8_WRAP(_Znam, (size_t bytes), (bytes))
Q8_WRAP(_ZnwmSt11align_val_t, (size_t bytes, std::align_val_t alignment), (bytes, alignment))
Q8_WRAP(aligned_alloc, (size_t alignment, size_t bytes), (alignment, bytes))
#endif
