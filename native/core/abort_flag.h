// SPDX-License-Identifier: MIT
/// A cancellation flag in memory that JavaScript may own: an int32 that another thread sets to 1
/// while we poll it.
#pragma once

#include <cstdint>

namespace q8 {

/// Whether `flag` (may be null) is set. Cheap enough for once per block; orders nothing.
inline bool is_aborted(const int32_t* flag) {
#if defined(__GNUC__)
  return flag != nullptr && __atomic_load_n(flag, __ATOMIC_RELAXED) != 0;
#else
  return flag != nullptr && *static_cast<const volatile int32_t*>(flag) != 0;
#endif
}

inline void set_aborted(int32_t* flag) {
#if defined(__GNUC__)
  __atomic_store_n(flag, 1, __ATOMIC_RELAXED);
#else
  *static_cast<volatile int32_t*>(flag) = 1;
#endif
}

}  // namespace q8
