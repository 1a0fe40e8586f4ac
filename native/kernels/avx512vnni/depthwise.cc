// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX512-VNNI. Four taps are interleaved into dwords with byte and word
/// unpacks, and one vpdpbusd multiplies them by four weights: all four multipliers of a lane do
/// useful work. Per four taps and 64 channels: 4 loads, 4 flips, 8 unpacks (p5), 4 vpdpbusd (p0,
/// p5) with weights from memory. Registers: 4 sums + 4 loaded + 8 unpacked + flip = 17 of 32 zmm.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

struct Taps {
  static constexpr size_t kGroup = 4;
  using Weight = int8_t;

  template <bool kInputs>
  static void accumulate(const __m512i (&rows)[kGroup], const __m512i* w, __m512i (&acc)[4],
                         __m512i (&inputs)[4]) {
    const __m512i low01 = _mm512_unpacklo_epi8(rows[0], rows[1]);
    const __m512i high01 = _mm512_unpackhi_epi8(rows[0], rows[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(rows[2], rows[3]);
    const __m512i high23 = _mm512_unpackhi_epi8(rows[2], rows[3]);
    const __m512i quads[4] = {
        _mm512_unpacklo_epi16(low01, low23), _mm512_unpackhi_epi16(low01, low23),
        _mm512_unpacklo_epi16(high01, high23), _mm512_unpackhi_epi16(high01, high23)};
    for (size_t v = 0; v < 4; ++v) {
      acc[v] = _mm512_dpbusd_epi32(acc[v], quads[v], _mm512_load_si512(w + v));
      if constexpr (kInputs)
        inputs[v] = _mm512_dpbusd_epi32(inputs[v], quads[v], _mm512_set1_epi8(1));
    }
  }
};

}  // namespace
}  // namespace q8

#include "kernels/common/zmm-depthwise-inl.h"

namespace q8::avx512vnni {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avx512vnni
