// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX-VNNI. Four taps of a column are interleaved into dwords, and one
/// VPDPBUSD multiplies them by four weights. A column of a rolling 3x3 window costs 16 channels 3
/// VPERMQ and 4 unpacks, a pixel takes 6 VPDPBUSD with weights from memory.
#define Q8_TARGET avxvnni
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avxvnni {
namespace {

constexpr size_t kGroup = 4;
using Weight = int8_t;

/// Eight channels to the low half of each lane.
inline __m256i spread(__m128i bytes) {
  return _mm256_permute4x64_epi64(_mm256_castsi128_si256(bytes), 0x50);
}

inline void interleave(const __m256i (&taps)[kGroup], __m256i (&operand)[2]) {
  const __m256i upper = _mm256_unpacklo_epi8(taps[0], taps[1]);
  const __m256i lower = _mm256_unpacklo_epi8(taps[2], taps[3]);
  operand[0] = _mm256_unpacklo_epi16(upper, lower);
  operand[1] = _mm256_unpackhi_epi16(upper, lower);
}

inline __m256i multiply_add(__m256i sums, __m256i taps, __m256i weights) {
  return _mm256_dpbusd_avx_epi32(sums, taps, weights);
}

inline __m256i ones() { return _mm256_set1_epi8(1); }

}  // namespace
}  // namespace q8::avxvnni

#include "kernels/common/ymm-depthwise-inl.h"

namespace q8::avxvnni {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avxvnni
