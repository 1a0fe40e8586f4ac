// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX-VNNI. Four taps are interleaved into dwords with byte and word
/// unpacks, and one vpdpbusd multiplies them by four weights: all four multipliers of a lane do
/// useful work. Per four taps and 32 channels: 4 loads, 4 flips, 8 unpacks (p5), 4 vpdpbusd with
/// weights from memory. Registers: 4 sums + 4 loaded + 4 unpacked + flip = 13 of 16 ymm.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

struct Taps {
  static constexpr size_t kGroup = 4;
  using Weight = int8_t;

  template <bool kInputs>
  static void accumulate(const __m256i (&rows)[kGroup], const __m256i* w, __m256i (&acc)[4],
                         __m256i (&inputs)[4]) {
    const __m256i low01 = _mm256_unpacklo_epi8(rows[0], rows[1]);
    const __m256i high01 = _mm256_unpackhi_epi8(rows[0], rows[1]);
    const __m256i low23 = _mm256_unpacklo_epi8(rows[2], rows[3]);
    const __m256i high23 = _mm256_unpackhi_epi8(rows[2], rows[3]);
    const __m256i quads[4] = {
        _mm256_unpacklo_epi16(low01, low23), _mm256_unpackhi_epi16(low01, low23),
        _mm256_unpacklo_epi16(high01, high23), _mm256_unpackhi_epi16(high01, high23)};
    for (size_t v = 0; v < 4; ++v) {
      acc[v] = _mm256_dpbusd_avx_epi32(acc[v], quads[v], _mm256_load_si256(w + v));
      if constexpr (kInputs)
        inputs[v] = _mm256_dpbusd_avx_epi32(inputs[v], quads[v], _mm256_set1_epi8(1));
    }
  }
};

}  // namespace
}  // namespace q8

#include "kernels/common/ymm-depthwise-inl.h"

namespace q8::avxvnni {

extern const ConvKernels kConv = kConvKernels;

}  // namespace q8::avxvnni
