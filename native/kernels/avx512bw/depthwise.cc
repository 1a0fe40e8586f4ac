// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX-512 without VNNI: pairs of taps widened to 16 bits, as in the avx2
/// room. Per pair of taps and 64 channels: 2 loads, 2 flips, 6 unpacks (p5), 4 vpmaddwd with
/// weights from memory, 4 adds.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

struct Taps {
  static constexpr size_t kGroup = 2;
  using Weight = int16_t;

  template <bool kInputs>
  static void accumulate(const __m512i (&rows)[kGroup], const __m512i* w, __m512i (&acc)[4],
                         __m512i (&inputs)[4]) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i low = _mm512_unpacklo_epi8(rows[0], rows[1]);
    const __m512i high = _mm512_unpackhi_epi8(rows[0], rows[1]);
    const __m512i pairs[4] = {_mm512_unpacklo_epi8(low, zero), _mm512_unpackhi_epi8(low, zero),
                              _mm512_unpacklo_epi8(high, zero), _mm512_unpackhi_epi8(high, zero)};
    for (size_t v = 0; v < 4; ++v) {
      acc[v] = _mm512_add_epi32(acc[v], _mm512_madd_epi16(pairs[v], _mm512_load_si512(w + v)));
      if constexpr (kInputs) {
        const __m512i sums = _mm512_madd_epi16(pairs[v], _mm512_set1_epi16(1));
        inputs[v] = _mm512_add_epi32(inputs[v], sums);
      }
    }
  }
};

}  // namespace
}  // namespace q8

#include "kernels/common/zmm-depthwise-inl.h"

namespace q8::avx512bw {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avx512bw
