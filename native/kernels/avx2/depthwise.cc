// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX2. Bytes are widened to 16 bits and interleaved with those of the
/// row below, and VPMADDWD multiplies the pairs by pairs of weights: exact, and two products for
/// one instruction. A column of a rolling 3x3 window costs 16 channels 3 VPMOVZXBW and 4 unpacks; a
/// pixel takes 10 VPMADDWD with weights from memory, 10 VPADDD and 13 instructions of epilogue: 40
/// in all, 10 cycles of Zen 3's four pipes.
#define Q8_TARGET avx2
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx2 {
namespace {

constexpr size_t kGroup = 2;
using Weight = int16_t;

inline __m256i spread(__m128i bytes) { return _mm256_cvtepu8_epi16(bytes); }

inline void interleave(const __m256i (&taps)[kGroup], __m256i (&operand)[2]) {
  operand[0] = _mm256_unpacklo_epi16(taps[0], taps[1]);
  operand[1] = _mm256_unpackhi_epi16(taps[0], taps[1]);
}

inline __m256i multiply_add(__m256i sums, __m256i taps, __m256i weights) {
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(taps, weights));
#if defined(__GNUC__)
  // Hides the sum: GCC would add up products first, run out of registers and spill.
  __asm__("" : "+x"(sums));
#endif
  return sums;
}

inline __m256i ones() { return _mm256_set1_epi16(1); }

}  // namespace
}  // namespace q8::avx2

#include "kernels/common/ymm-depthwise-inl.h"

namespace q8::avx2 {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avx2
