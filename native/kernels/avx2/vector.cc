// SPDX-License-Identifier: MIT
/// Vector operators for AVX2 + FMA. Float GEMM tile 6x16: 12 accumulators + 2 of B + 1 of A = 15 of
/// 16 ymm; 12 chains cover 4 cycles of FMA latency on 2 ports with room to spare.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/common/xmm-bytes-inl.h"
#include "kernels/vector_kernels.h"

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
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V div(V a, V b) { return _mm256_div_ps(a, b); }
  /// Both instructions give their second operand when one is NaN.
  static V clamp(V v, V lo, V hi) { return _mm256_min_ps(hi, _mm256_max_ps(lo, v)); }
};

/// VPSHUFB looks up the low four bits of a code and gives 0 where bit 7 is set. Running through the
/// sixteen rows of the table, 16 is subtracted from the codes (saturating at -128) from row to row:
/// they turn negative behind their own row, so that exactly the rows up to it contribute, and as
/// row k holds row k xor row k - 1, their sum is the row itself. Each half of the table has a chain
/// of its own, the second for codes with bit 7 flipped.
struct CodeLanes {
  static constexpr size_t kWidth = 32;

  class Table {
   public:
    explicit Table(const uint8_t* codes) {
      for (size_t k = 0; k < 16; ++k) {
        rows_[k] = _mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * k)));
      }
      for (size_t k = 15; k > 0; --k) {
        if (k != 8) rows_[k] = _mm256_xor_si256(rows_[k], rows_[k - 1]);
      }
    }

    void map(const uint8_t* x, uint8_t* y) const {
      const __m256i sixteen = _mm256_set1_epi8(16);
      __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
      __m256i high = _mm256_xor_si256(low, _mm256_set1_epi8(-128));
      __m256i from_low = _mm256_shuffle_epi8(rows_[0], low);
      __m256i from_high = _mm256_shuffle_epi8(rows_[8], high);
      for (size_t k = 1; k < 8; ++k) {
        low = _mm256_subs_epi8(low, sixteen);
        high = _mm256_subs_epi8(high, sixteen);
        from_low = _mm256_xor_si256(from_low, _mm256_shuffle_epi8(rows_[k], low));
        from_high = _mm256_xor_si256(from_high, _mm256_shuffle_epi8(rows_[8 + k], high));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_or_si256(from_low, from_high));
    }

   private:
    __m256i rows_[16];
  };
};

/// See avx512bw/vector.cc.
struct QBinaryLanes {
  static constexpr size_t kWidth = 32;

  QBinaryLanes(const CodeParams& a, const CodeParams& b, const QuantizeParams& y)
      : a_(a),
        b_(b),
        scale_(_mm256_set1_ps(y.scale)),
        upper_(_mm256_set1_ps(y.hi)),
        zero_point_(_mm256_set1_epi16(static_cast<int16_t>(y.zero_point))),
        is_signed_(static_cast<int32_t>(y.hi) + y.zero_point <= INT8_MAX) {}

  template <bool kSigned, class Op>
  void map(Op op, const uint8_t* a, const uint8_t* b, uint8_t* y) const {
    const auto codes = [&](size_t at) {
      const __m256 real = op.template on_lanes<F32Lanes>(a_.template dequantize<kSigned>(a + at),
                                                         b_.template dequantize<kSigned>(b + at));
      // In this order NaN passes, and becomes the least int32 like what is too low.
      return _mm256_cvtps_epi32(_mm256_min_ps(upper_, _mm256_div_ps(real, scale_)));
    };
    const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(codes(0), codes(8)), zero_point_);
    const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(codes(16), codes(24)), zero_point_);
    const __m256i bytes =
        is_signed_ ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
    // Packs work within 128 bits: a lane holds four codes of each operand.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_permutevar8x32_epi32(bytes, order));
  }

 private:
  struct Operand {
    __m256 scale;
    __m256i zero_point;

    explicit Operand(const CodeParams& p)
        : scale(_mm256_set1_ps(p.scale)), zero_point(_mm256_set1_epi32(p.zero_point - p.flip)) {}

    template <bool kSigned>
    __m256 dequantize(const uint8_t* x) const {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
      const __m256i codes = kSigned ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes);
      return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(codes, zero_point)), scale);
    }
  };

  Operand a_;
  Operand b_;
  __m256 scale_;
  __m256 upper_;
  __m256i zero_point_;
  bool is_signed_;
};

/// See common/zmm-vector-inl.h.
struct FusedLanes {
  static constexpr size_t kWidth = 32;

  explicit FusedLanes(const FusedParams& p)
      : a_factor_(_mm256_set1_ps(p.a_factor)),
        b_factor_(_mm256_set1_ps(p.b_factor)),
        offset_(_mm256_set1_ps(p.offset)),
        a_zero_(_mm256_set1_ps(p.a_zero)),
        b_zero_(_mm256_set1_ps(p.b_zero)) {}

  template <bool kProduct, bool kSigned, bool kSignedY>
  void map(const uint8_t* a, const uint8_t* b, uint8_t* y) const {
    const auto floats = [](const uint8_t* x) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
      return _mm256_cvtepi32_ps(kSigned ? _mm256_cvtepi8_epi32(bytes)
                                        : _mm256_cvtepu8_epi32(bytes));
    };
    const auto codes = [&](size_t at) {
      const __m256 u = floats(a + at);
      const __m256 v = floats(b + at);
      if constexpr (kProduct) {
        const __m256 product = _mm256_mul_ps(_mm256_sub_ps(u, a_zero_), _mm256_sub_ps(v, b_zero_));
        return _mm256_cvtps_epi32(_mm256_fmadd_ps(product, a_factor_, offset_));
      } else {
        return _mm256_cvtps_epi32(
            _mm256_fmadd_ps(u, a_factor_, _mm256_fmadd_ps(v, b_factor_, offset_)));
      }
    };
    const __m256i low = _mm256_packs_epi32(codes(0), codes(8));
    const __m256i high = _mm256_packs_epi32(codes(16), codes(24));
    const __m256i bytes = kSignedY ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_permutevar8x32_epi32(bytes, order));
  }

 private:
  __m256 a_factor_;
  __m256 b_factor_;
  __m256 offset_;
  __m256 a_zero_;
  __m256 b_zero_;
};

}  // namespace
}  // namespace q8

#include "kernels/common/vector-inl.h"

namespace q8::avx2 {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::avx2
