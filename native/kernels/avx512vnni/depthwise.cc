// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX512-VNNI. Four taps of a column are interleaved into dwords, and
/// one VPDPBUSD multiplies them by four weights. A column of a rolling 3x3 window costs 64 channels
/// 8 unpacks (p5), a pixel takes 12 VPDPBUSD (p0, p5).
#define Q8_TARGET avx512vnni
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx512vnni {
namespace {

constexpr size_t kGroup = 4;
using Weight = int8_t;

/// Eight channels to the low half of each lane.
inline __m512i spread(__m256i bytes) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                  _mm512_castsi256_si512(bytes));
}

inline void interleave(const __m512i (&taps)[kGroup], __m512i (&operand)[2]) {
  const __m512i upper = _mm512_unpacklo_epi8(taps[0], taps[1]);
  const __m512i lower = _mm512_unpacklo_epi8(taps[2], taps[3]);
  operand[0] = _mm512_unpacklo_epi16(upper, lower);
  operand[1] = _mm512_unpackhi_epi16(upper, lower);
}

inline void interleave(const __m512i (&taps)[kGroup], __m512i (&operand)[4]) {
  const __m512i low01 = _mm512_unpacklo_epi8(taps[0], taps[1]);
  const __m512i high01 = _mm512_unpackhi_epi8(taps[0], taps[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(taps[2], taps[3]);
  const __m512i high23 = _mm512_unpackhi_epi8(taps[2], taps[3]);
  operand[0] = _mm512_unpacklo_epi16(low01, low23);
  operand[1] = _mm512_unpackhi_epi16(low01, low23);
  operand[2] = _mm512_unpacklo_epi16(high01, high23);
  operand[3] = _mm512_unpackhi_epi16(high01, high23);
}

inline __m512i multiply_add(__m512i sums, __m512i taps, __m512i weights) {
  return _mm512_dpbusd_epi32(sums, taps, weights);
}

inline __m512i ones() { return _mm512_set1_epi8(1); }

}  // namespace
}  // namespace q8::avx512vnni

#include "kernels/common/zmm-depthwise-inl.h"

namespace q8::avx512vnni {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avx512vnni
