// SPDX-License-Identifier: MIT
/// Vector operators for AVX-512. Float GEMM tile 12x32: 24 accumulators + 2 of B + 1 of A = 27 of
/// 32 zmm; 14 loads for 24 FMA.
#include <immintrin.h>

#include <cstddef>

namespace q8 {
namespace {

struct F32Lanes {
  using V = __m512;
  static constexpr size_t kWidth = 16;
  static constexpr size_t kRows = 12;
  static constexpr size_t kPanels = 2;
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V broadcast(float v) { return _mm512_set1_ps(v); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  /// Both instructions give their second operand when one is NaN.
  static V clamp(V v, V lo, V hi) { return _mm512_min_ps(hi, _mm512_max_ps(lo, v)); }
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::avx512bw {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::avx512bw
