// SPDX-License-Identifier: MIT
/// Vector operators on zmm: what the rooms with AVX-512 share. Included once by
/// kernels/<isa>/vector.cc after the room's CodeLanes. Float GEMM tile 12x32: 24 accumulators + 2
/// of B + 1 of A = 27 of 32 zmm; 14 loads for 24 FMA.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/common/xmm-bytes-inl.h"
#include "kernels/vector_kernels.h"

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
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V div(V a, V b) { return _mm512_div_ps(a, b); }
  /// Both instructions give their second operand when one is NaN.
  static V clamp(V v, V lo, V hi) { return _mm512_min_ps(hi, _mm512_max_ps(lo, v)); }
};

/// Compilers widen codes in two steps and narrow them in two more, and round by adding and
/// subtracting; VPMOVZXBD, VCVTPS2DQ and saturating packs take half of the instructions.
struct QBinaryLanes {
  static constexpr size_t kWidth = 64;

  QBinaryLanes(const CodeParams& a, const CodeParams& b, const QuantizeParams& y)
      : a_(a),
        b_(b),
        scale_(_mm512_set1_ps(y.scale)),
        upper_(_mm512_set1_ps(y.hi)),
        zero_point_(_mm512_set1_epi16(static_cast<int16_t>(y.zero_point))),
        is_signed_(static_cast<int32_t>(y.hi) + y.zero_point <= INT8_MAX) {}

  template <bool kSigned, class Op>
  void map(Op op, const uint8_t* a, const uint8_t* b, uint8_t* y) const {
    const auto codes = [&](size_t at) {
      const __m512 real = op.template on_lanes<F32Lanes>(a_.template dequantize<kSigned>(a + at),
                                                         b_.template dequantize<kSigned>(b + at));
      // In this order NaN passes, and becomes the least int32 like what is too low. Only large
      // values need a bound: they would become it too.
      return _mm512_cvtps_epi32(_mm512_min_ps(upper_, _mm512_div_ps(real, scale_)));
    };
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(codes(0), codes(16)), zero_point_);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(codes(32), codes(48)), zero_point_);
    const __m512i bytes =
        is_signed_ ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    // Packs work within 128 bits: a lane holds four codes of each operand.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(y, _mm512_permutexvar_epi32(order, bytes));
  }

 private:
  struct Operand {
    __m512 scale;
    __m512i zero_point;

    explicit Operand(const CodeParams& p)
        : scale(_mm512_set1_ps(p.scale)), zero_point(_mm512_set1_epi32(p.zero_point - p.flip)) {}

    template <bool kSigned>
    __m512 dequantize(const uint8_t* x) const {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
      const __m512i codes = kSigned ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(codes, zero_point)), scale);
    }
  };

  Operand a_;
  Operand b_;
  __m512 scale_;
  __m512 upper_;
  __m512i zero_point_;
  bool is_signed_;
};

/// Four operations for 16 codes, and their conversions.
struct FusedLanes {
  static constexpr size_t kWidth = 64;

  explicit FusedLanes(const FusedParams& p)
      : a_factor_(_mm512_set1_ps(p.a_factor)),
        b_factor_(_mm512_set1_ps(p.b_factor)),
        offset_(_mm512_set1_ps(p.offset)),
        a_zero_(_mm512_set1_ps(p.a_zero)),
        b_zero_(_mm512_set1_ps(p.b_zero)) {}

  template <bool kProduct, bool kSigned, bool kSignedY>
  void map(const uint8_t* a, const uint8_t* b, uint8_t* y) const {
    const auto floats = [](const uint8_t* x) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
      return _mm512_cvtepi32_ps(kSigned ? _mm512_cvtepi8_epi32(bytes)
                                        : _mm512_cvtepu8_epi32(bytes));
    };
    const auto codes = [&](size_t at) {
      const __m512 u = floats(a + at);
      const __m512 v = floats(b + at);
      if constexpr (kProduct) {
        const __m512 product = _mm512_mul_ps(_mm512_sub_ps(u, a_zero_), _mm512_sub_ps(v, b_zero_));
        return _mm512_cvtps_epi32(_mm512_fmadd_ps(product, a_factor_, offset_));
      } else {
        return _mm512_cvtps_epi32(
            _mm512_fmadd_ps(u, a_factor_, _mm512_fmadd_ps(v, b_factor_, offset_)));
      }
    };
    const __m512i low = _mm512_packs_epi32(codes(0), codes(16));
    const __m512i high = _mm512_packs_epi32(codes(32), codes(48));
    const __m512i bytes = kSignedY ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(y, _mm512_permutexvar_epi32(order, bytes));
  }

 private:
  __m512 a_factor_;
  __m512 b_factor_;
  __m512 offset_;
  __m512 a_zero_;
  __m512 b_zero_;
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"
