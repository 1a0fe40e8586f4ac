// SPDX-License-Identifier: MIT
/// The ByteLanes of every room on x86: no wider registers transpose bytes in fewer steps, as they
/// zip within 128 bits.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

/// Sixteen bytes, for transposing.
struct ByteLanes {
  static constexpr size_t kWidth = 16;
  using V = __m128i;
  static V load(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static void store(uint8_t* p, V v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  static V zip_low(V a, V b) { return _mm_unpacklo_epi8(a, b); }
  static V zip_high(V a, V b) { return _mm_unpackhi_epi8(a, b); }
};

}  // namespace
}  // namespace q8
