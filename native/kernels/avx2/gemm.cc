// SPDX-License-Identifier: MIT
/// Exact u8 x s8 -> s32 GEMM for AVX2 without VNNI.
///
/// VPMADDUBSW would be the natural instruction, but it saturates its pair sums at int16. Instead A
/// is packed once as int16, B (K2N16, int8 in memory) is widened on load, and VPMADDWD sums pairs
/// exactly in int32: |a*b| <= 255 * 128.
///
/// Where several strips of rows share a panel, the driver has it widened once (WideTile): the
/// widening and the sums compete with the multiply-adds for pipes.
///
/// Per K2 step of the 6x16 tile: 2 VPMOVSXBW + 6 VPBROADCASTD (loads) + 12 VPMADDWD + 12 VPADDD.
/// That is 26 vector operations, 6.5 cycles of Zen 3's four pipes against 6 for the multiply-adds
/// alone.
#define Q8_TARGET avx2
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx2 {
namespace {

struct Dot {
  static constexpr const char* kInstruction = "vpmaddwd";
  static constexpr bool kBounded = false;
  using Element = int16_t;
  static constexpr size_t kKr = 2;

  static __m256i load_b(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  /// Written out because GCC 12 puts the product and the sum into two new registers, runs out of
  /// the sixteen and spills accumulators inside the loop; tied operands leave it no choice.
  static void multiply_add(__m256i& acc, __m256i a, __m256i b) {
#if defined(__GNUC__)
    __m256i product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0"
            : "+x"(acc), "=&x"(product)
            : "x"(b), "x"(a));
#else
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
#endif
  }

  /// Products next to each other and sums next to each other take 8 % less time on Zen 3, where two
  /// of the four pipes multiply.
  static void multiply_add_halves(__m256i& lo, __m256i& hi, __m256i a, __m256i b_lo, __m256i b_hi) {
#if defined(__GNUC__)
    __m256i product;
    __asm__(
        "vpmaddwd %[b_lo], %[a], %[product]\n\t"
        "vpmaddwd %[b_hi], %[a], %[a]\n\t"
        "vpaddd %[product], %[lo], %[lo]\n\t"
        "vpaddd %[a], %[hi], %[hi]"
        : [lo] "+x"(lo), [hi] "+x"(hi), [a] "+x"(a), [product] "=&x"(product)
        : [b_lo] "x"(b_lo), [b_hi] "x"(b_hi));
#else
    multiply_add(lo, a, b_lo);
    multiply_add(hi, a, b_hi);
#endif
  }
};

}  // namespace
}  // namespace q8::avx2

#include "kernels/common/ymm-gemm-inl.h"

namespace q8::avx2 {

extern const GemmKernels kGemm = kGemmKernels;

}  // namespace q8::avx2
