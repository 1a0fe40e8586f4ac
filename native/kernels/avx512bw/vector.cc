// SPDX-License-Identifier: MIT
/// Vector operators for AVX-512 BW.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

/// VPSHUFB looks up the low four bits of a code and gives 0 where bit 7 is set. Running through the
/// sixteen rows of the table, 16 is subtracted from the codes (saturating at -128) from row to row:
/// they turn negative behind their own row, so that exactly the rows up to it contribute, and as
/// row k holds row k xor row k - 1, their sum is the row itself. Each half of the table has a chain
/// of its own, the second for codes with bit 7 flipped.
struct CodeLanes {
  static constexpr size_t kWidth = 64;

  class Table {
   public:
    explicit Table(const uint8_t* codes) {
      for (size_t k = 0; k < 16; ++k) {
        rows_[k] = _mm512_broadcast_i32x4(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * k)));
      }
      for (size_t k = 15; k > 0; --k) {
        if (k != 8) rows_[k] = _mm512_xor_si512(rows_[k], rows_[k - 1]);
      }
    }

    void map(const uint8_t* x, uint8_t* y) const {
      const __m512i sixteen = _mm512_set1_epi8(16);
      __m512i low = _mm512_loadu_si512(x);
      __m512i high = _mm512_xor_si512(low, _mm512_set1_epi8(-128));
      __m512i from_low = _mm512_shuffle_epi8(rows_[0], low);
      __m512i from_high = _mm512_shuffle_epi8(rows_[8], high);
      for (size_t k = 1; k < 8; ++k) {
        low = _mm512_subs_epi8(low, sixteen);
        high = _mm512_subs_epi8(high, sixteen);
        from_low = _mm512_xor_si512(from_low, _mm512_shuffle_epi8(rows_[k], low));
        from_high = _mm512_xor_si512(from_high, _mm512_shuffle_epi8(rows_[8 + k], high));
      }
      _mm512_storeu_si512(y, _mm512_or_si512(from_low, from_high));
    }

   private:
    __m512i rows_[16];
  };
};

}  // namespace
}  // namespace q8

#include "kernels/common/zmm-vector-inl.h"

namespace q8::avx512bw {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::avx512bw
