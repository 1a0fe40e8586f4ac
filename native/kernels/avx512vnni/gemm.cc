// SPDX-License-Identifier: MIT
/// u8 x s8 -> s32 GEMM for AVX-512 VNNI.
///
/// VPDPBUSD folds four products into each int32 lane and wraps, so it is exact for every weight.
/// Packed B is K4N16: a row is one zmm, 16 columns x 4 k. A is read in place, four bytes of a row
/// broadcast to all lanes (a pure load).
#define Q8_TARGET avx512vnni
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8::avx512vnni {
namespace {

struct Dot {
  static constexpr const char* kInstruction = "vpdpbusd";
  static constexpr bool kBounded = false;
  static constexpr size_t kMacsPerThread = 1 << 22;
  using Element = uint8_t;
  static constexpr size_t kKr = 4;
  /// 5 cycles of latency at 2 per cycle on Ice Lake, and some slack.
  static constexpr size_t kChains = 16;
  static constexpr size_t kScratch = 1;

  static __m512i load_b(const int8_t* p) { return _mm512_loadu_si512(p); }

  /// Written out because GCC 12 does not tie the intrinsic's accumulator to one register: it copies
  /// accumulators in every round and spills some. (An emulated build has no such instruction.)
  static __m512i multiply_add(__m512i acc, __m512i a, __m512i b) {
#if defined(__GNUC__) && defined(__AVX512VNNI__)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
#else
    return _mm512_dpbusd_epi32(acc, a, b);
#endif
  }
};

}  // namespace
}  // namespace q8::avx512vnni

#include "kernels/common/zmm-gemm-inl.h"

namespace q8::avx512vnni {

extern const GemmKernels kGemm = kGemmKernels;

}  // namespace q8::avx512vnni
