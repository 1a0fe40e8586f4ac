// SPDX-License-Identifier: MIT
/// Vector operators for AVX2 + FMA. Float GEMM tile 6x16: 12 accumulators + 2 of B + 1 of A = 15 of
/// 16 ymm; 12 chains cover 4 cycles of FMA latency on 2 ports with room to spare.
#include <immintrin.h>

#include <cstddef>

namespace q8 {
namespace {

struct F32Lanes {
  using V = __m256;
  static constexpr size_t kWidth = 8;
  static constexpr size_t kRows = 6;
  static constexpr size_t kPanels = 1;
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V broadcast(float v) { return _mm256_set1_ps(v); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  /// Both instructions give their second operand when one is NaN.
  static V clamp(V v, V lo, V hi) { return _mm256_min_ps(hi, _mm256_max_ps(lo, v)); }
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::avx2 {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::avx2
