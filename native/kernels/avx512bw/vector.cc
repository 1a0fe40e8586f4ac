// SPDX-License-Identifier: MIT
/// Vector operators for AVX-512. Float GEMM tile 12x16: 12 accumulators + 1 of B + 1 of A = 14 of
/// 32 zmm, 12 chains for 4 cycles of FMA latency on 2 ports.
#include <immintrin.h>

#include <cstddef>

namespace q8 {
namespace {

struct F32Lanes {
  using V = __m512;
  static constexpr size_t kWidth = 16;
  static constexpr size_t kRows = 12;
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V broadcast(float v) { return _mm512_set1_ps(v); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::avx512bw {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::avx512bw
