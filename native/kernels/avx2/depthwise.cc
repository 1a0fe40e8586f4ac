// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX2. Two taps are interleaved byte by byte and widened with zeros to
/// pairs of 16 bits, which vpmaddwd multiplies by pairs of weights: exact, and two products for one
/// instruction. Per pair of taps and 32 channels: 2 loads, 2 flips, 6 unpacks (p5 on Intel, 2 ports
/// on Zen), 4 vpmaddwd with weights from memory, 4 adds. Registers: 4 sums + 2 loaded + 4 unpacked
/// + zero + flip = 12 of 16 ymm.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

struct Taps {
  static constexpr size_t kGroup = 2;
  using Weight = int16_t;

  template <bool kInputs>
  static void accumulate(const __m256i (&rows)[kGroup], const __m256i* w, __m256i (&acc)[4],
                         __m256i (&inputs)[4]) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi8(rows[0], rows[1]);
    const __m256i high = _mm256_unpackhi_epi8(rows[0], rows[1]);
    const __m256i pairs[4] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                              _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
    for (size_t v = 0; v < 4; ++v) {
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs[v], _mm256_load_si256(w + v)));
      if constexpr (kInputs) {
        const __m256i sums = _mm256_madd_epi16(pairs[v], _mm256_set1_epi16(1));
        inputs[v] = _mm256_add_epi32(inputs[v], sums);
      }
    }
  }
};

}  // namespace
}  // namespace q8

#include "kernels/common/ymm-depthwise-inl.h"

namespace q8::avx2 {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avx2
