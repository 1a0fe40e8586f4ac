// SPDX-License-Identifier: MIT
/// Loops unrolled by the compiler's front end. An accumulator array stays in registers only if
/// every index into it is a constant early on; a plain loop with a pragma is unrolled too late for
/// that.
#pragma once

#include <cstddef>

#if defined(__GNUC__)
#define Q8_ALWAYS_INLINE inline __attribute__((always_inline))
#define Q8_INLINE_LAMBDA __attribute__((always_inline))
#else
#define Q8_ALWAYS_INLINE __forceinline
#define Q8_INLINE_LAMBDA
#endif

namespace q8 {
namespace Q8_TARGET {
namespace {

template <size_t kValue>
struct Index {
  static constexpr size_t kIndex = kValue;
  constexpr operator size_t() const { return kValue; }
};

/// body(Index<kBegin>), ..., body(Index<kEnd - 1>).
template <size_t kBegin, size_t kEnd, typename Body>
Q8_ALWAYS_INLINE void unroll(const Body& body) {
  if constexpr (kBegin < kEnd) {
    body(Index<kBegin>{});
    unroll<kBegin + 1, kEnd>(body);
  }
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
