// SPDX-License-Identifier: MIT
/// u8 x s8 -> s32 GEMM for AVX-VNNI, the VEX form of VPDPBUSD on ymm (Alder Lake and later).
///
/// VPDPBUSD folds four products into each int32 lane and wraps, so it is exact for every weight.
/// Packed B is K4N16: a row is two ymm, 8 columns x 4 k each. A is read in place.
///
/// Per K4 step of the 6x16 tile: 2 loads of B + 6 VPBROADCASTD (pure loads) + 12 VPDPBUSD, and 12
/// chains cover its 5 cycles of latency at 2 per cycle.
#define Q8_TARGET avxvnni
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avxvnni {
namespace {

struct Dot {
  static constexpr const char* kInstruction = "vpdpbusd";
  static constexpr bool kBounded = false;
  using Element = uint8_t;
  static constexpr size_t kKr = 4;

  static __m256i load_b(const int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }

  /// Written out because GCC 12 does not tie the intrinsic's accumulator to one register. (An
  /// emulated build has no such instruction.)
  static void multiply_add(__m256i& acc, __m256i a, __m256i b) {
#if defined(__GNUC__) && defined(__AVXVNNI__)
    // Assemblers choose the EVEX form, which these CPUs lack, unless told otherwise.
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
#else
    acc = _mm256_dpbusd_avx_epi32(acc, a, b);
#endif
  }

  static void multiply_add_halves(__m256i& lo, __m256i& hi, __m256i a, __m256i b_lo, __m256i b_hi) {
    multiply_add(lo, a, b_lo);
    multiply_add(hi, a, b_hi);
  }
};

}  // namespace
}  // namespace q8::avxvnni

#include "kernels/common/ymm-gemm-inl.h"

namespace q8::avxvnni {

extern const GemmKernels kGemm = kGemmKernels;

}  // namespace q8::avxvnni
