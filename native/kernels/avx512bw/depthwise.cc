// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX-512 without VNNI: pairs of taps widened to 16 bits, as in the avx2
/// room.
#define Q8_TARGET avx512bw
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx512bw {
namespace {

constexpr size_t kGroup = 2;
using Weight = int16_t;

inline __m512i spread(__m256i bytes) { return _mm512_cvtepu8_epi16(bytes); }

inline void interleave(const __m512i (&taps)[kGroup], __m512i (&operand)[2]) {
  operand[0] = _mm512_unpacklo_epi16(taps[0], taps[1]);
  operand[1] = _mm512_unpackhi_epi16(taps[0], taps[1]);
}

inline void interleave(const __m512i (&taps)[kGroup], __m512i (&operand)[4]) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i low = _mm512_unpacklo_epi8(taps[0], taps[1]);
  const __m512i high = _mm512_unpackhi_epi8(taps[0], taps[1]);
  operand[0] = _mm512_unpacklo_epi8(low, zero);
  operand[1] = _mm512_unpackhi_epi8(low, zero);
  operand[2] = _mm512_unpacklo_epi8(high, zero);
  operand[3] = _mm512_unpackhi_epi8(high, zero);
}

inline __m512i multiply_add(__m512i sums, __m512i taps, __m512i weights) {
  sums = _mm512_add_epi32(sums, _mm512_madd_epi16(taps, weights));
#if defined(__GNUC__) && defined(__AVX512F__)
  // Hides the sum: GCC would add up products first, run out of registers and spill.
  __asm__("" : "+v"(sums));
#endif
  return sums;
}

inline __m512i ones() { return _mm512_set1_epi16(1); }

}  // namespace
}  // namespace q8::avx512bw

#include "kernels/common/zmm-depthwise-inl.h"

namespace q8::avx512bw {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avx512bw
