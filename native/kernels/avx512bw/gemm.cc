// SPDX-License-Identifier: MIT
/// Exact u8 x s8 -> s32 GEMM for AVX-512 without VNNI (Skylake-X): the idea of the avx2 room on
/// zmm. A is packed as int16, B (K2N16, int8 in memory) is widened on load, VPMADDWD sums pairs
/// exactly in int32.
///
/// Per K2 step of the 14x32 tile: 2 VPMOVSXBW + 14 VPBROADCASTD (pure loads) + 28 VPMADDWD + 28
/// VPADDD: 58 operations for the two vector ports against 56 for the multiply-adds alone.
#define Q8_TARGET avx512bw
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx512bw {
namespace {

struct Dot {
  static constexpr const char* kInstruction = "vpmaddwd";
  static constexpr bool kBounded = false;
  static constexpr size_t kMacsPerThread = 1 << 21;
  using Element = int16_t;
  static constexpr size_t kKr = 2;
  /// The sum alone is carried from step to step, and takes one cycle.
  static constexpr size_t kChains = 4;
  static constexpr size_t kScratch = 2;

  static __m512i load_b(const int8_t* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  /// Written out for the reason of the avx2 room. (An emulated build has no such instructions.)
  static __m512i multiply_add(__m512i acc, __m512i a, __m512i b) {
#if defined(__GNUC__) && defined(__AVX512BW__)
    __m512i product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0"
            : "+v"(acc), "=&v"(product)
            : "v"(b), "v"(a));
    return acc;
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
  }
};

}  // namespace
}  // namespace q8::avx512bw

#include "kernels/common/zmm-gemm-inl.h"

namespace q8::avx512bw {

extern const GemmKernels kGemm = kGemmKernels;

}  // namespace q8::avx512bw
