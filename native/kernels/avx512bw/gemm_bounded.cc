// SPDX-License-Identifier: MIT
/// u8 x s8 -> s32 GEMM for AVX-512 without VNNI, for bounded weights: the idea of the avx2 room on
/// zmm. A is read in place, packed B is K4N16.
///
/// Per K4 step of the 13x32 tile: 2 loads of B + 13 VPBROADCASTD (pure loads) + 26 each of
/// VPMADDUBSW, VPMADDWD and VPADDD. Registers: 26 accumulators + 2 B + 1 A + 1 product + ones.
#define Q8_TARGET avx512bw
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx512bw {
namespace {

struct Dot {
  using Element = uint8_t;
  static constexpr const char* kInstruction = "vpmaddubsw";
  static constexpr bool kBounded = true;
  static constexpr size_t kMacsPerThread = 1 << 21;
  static constexpr size_t kKr = 4;
  /// The sum alone is carried from step to step, and takes one cycle.
  static constexpr size_t kChains = 4;
  static constexpr size_t kScratch = 3;

  static __m512i load_b(const int8_t* p) { return _mm512_loadu_si512(p); }

  /// Written out for the reason of the avx2 room. (An emulated build has no such instructions.)
  static __m512i multiply_add(__m512i acc, __m512i a, __m512i b) {
    const __m512i ones = _mm512_set1_epi16(1);
#if defined(__GNUC__) && defined(__AVX512BW__)
    __m512i sum;
    __asm__(
        "vpmaddubsw %2, %3, %1\n\t"
        "vpmaddwd %4, %1, %1\n\t"
        "vpaddd %1, %0, %0"
        : "+v"(acc), "=&v"(sum)
        : "v"(b), "v"(a), "v"(ones));
    return acc;
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), ones));
#endif
  }
};

}  // namespace
}  // namespace q8::avx512bw

#include "kernels/common/zmm-gemm-inl.h"

namespace q8::avx512bw {

extern const GemmKernels kGemmBounded = kGemmKernels;

}  // namespace q8::avx512bw
