// SPDX-License-Identifier: MIT
/// Search for weights whose pair sums VPMADDUBSW might saturate; needs AVX2. Included
/// after Q8_TARGET is defined as the room's namespace.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm_kernels.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// All ones in the 16-bit lanes whose pair of weights may saturate. 255 * 128 fits a signed 16-bit
/// lane, 255 * 129 does not; A of zeros hides either sign of a pair.
inline __m256i unbounded_pairs(__m256i b) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi8(1);
  const __m256i above = _mm256_maddubs_epi16(ones, _mm256_max_epi8(b, zero));
  const __m256i below = _mm256_maddubs_epi16(ones, _mm256_min_epi8(b, zero));
  return _mm256_or_si256(_mm256_cmpgt_epi16(above, _mm256_set1_epi16(128)),
                         _mm256_cmpgt_epi16(_mm256_set1_epi16(-128), below));
}

/// GemmKernels::find_unbounded for packed B of K4N16.
inline size_t find_unbounded(size_t steps, const int8_t* panel, uint32_t* found) {
  size_t count = 0;
  for (size_t i = 0; i < steps; ++i) {
    const __m256i* row = reinterpret_cast<const __m256i*>(panel + i * 64);
    const __m256i pairs = _mm256_or_si256(unbounded_pairs(_mm256_loadu_si256(row)),
                                          unbounded_pairs(_mm256_loadu_si256(row + 1)));
    if (_mm256_testz_si256(pairs, pairs)) continue;
    if (found != nullptr) found[count] = static_cast<uint32_t>(i);
    ++count;
  }
  return count;
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8
