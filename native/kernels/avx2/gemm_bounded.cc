// SPDX-License-Identifier: MIT
/// u8 x s8 -> s32 GEMM for AVX2 without VNNI, for bounded weights: VPMADDUBSW sums pairs of
/// products in 16 bits, which hold them because packing has made sure of it, and VPMADDWD by ones
/// sums two of these to 32 bits.
///
/// A is read in place, packed B is K4N16. Per K4 step of the 6x16 tile: 6 VPBROADCASTD (pure loads)
/// + 12 VPMADDUBSW with B as memory operand + 12 VPMADDWD + 12 VPADDD. That is 36 vector operations
/// for 4 k where gemm.cc needs 52.
#define Q8_TARGET avx2
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx2 {
namespace {

struct Dot {
  using Element = uint8_t;
  static constexpr const char* kInstruction = "vpmaddubsw";
  static constexpr bool kBounded = true;
  static constexpr size_t kKr = 4;

  static void multiply_add(__m256i& acc, __m256i a, __m256i b) {
    const __m256i ones = _mm256_set1_epi16(1);
#if defined(__GNUC__)
    __m256i sum;
    __asm__(
        "vpmaddubsw %2, %3, %1\n\t"
        "vpmaddwd %4, %1, %1\n\t"
        "vpaddd %1, %0, %0"
        : "+x"(acc), "=&x"(sum)
        : "x"(b), "x"(a), "x"(ones));
#else
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
#endif
  }

  /// Written out because sixteen registers suffice only if the second product replaces A.
  static void multiply_add_row(__m256i& lo, __m256i& hi, __m256i a, const int8_t* b) {
    const __m256i* const row = reinterpret_cast<const __m256i*>(b);
#if defined(__GNUC__)
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum;
    __asm__(
        "vpmaddubsw %[b_lo], %[a], %[sum]\n\t"
        "vpmaddubsw %[b_hi], %[a], %[a]\n\t"
        "vpmaddwd %[ones], %[sum], %[sum]\n\t"
        "vpmaddwd %[ones], %[a], %[a]\n\t"
        "vpaddd %[sum], %[lo], %[lo]\n\t"
        "vpaddd %[a], %[hi], %[hi]"
        : [lo] "+x"(lo), [hi] "+x"(hi), [a] "+x"(a), [sum] "=&x"(sum)
        : [b_lo] "m"(row[0]), [b_hi] "m"(row[1]), [ones] "x"(ones));
#else
    multiply_add(lo, a, _mm256_loadu_si256(row));
    multiply_add(hi, a, _mm256_loadu_si256(row + 1));
#endif
  }
};

}  // namespace
}  // namespace q8::avx2

#include "kernels/common/ymm-gemm-inl.h"

namespace q8::avx2 {

extern const GemmKernels kGemmBounded = kGemmKernels;

}  // namespace q8::avx2
