// SPDX-License-Identifier: MIT
/// Vector operators for AVX-512 with VBMI.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace q8 {
namespace {

/// VPERMI2B looks up 128 bytes in two registers by the low seven bits of a code; bit 7 chooses
/// between the halves of the table.
struct CodeLanes {
  static constexpr size_t kWidth = 64;

  class Table {
   public:
    explicit Table(const uint8_t* codes) {
      for (size_t k = 0; k < 4; ++k) rows_[k] = _mm512_loadu_si512(codes + 64 * k);
    }

    void map(const uint8_t* x, uint8_t* y) const {
      const __m512i at = _mm512_loadu_si512(x);
      const __m512i low = _mm512_permutex2var_epi8(rows_[0], at, rows_[1]);
      const __m512i high = _mm512_permutex2var_epi8(rows_[2], at, rows_[3]);
      _mm512_storeu_si512(y, _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high));
    }

   private:
    __m512i rows_[4];
  };
};

}  // namespace
}  // namespace q8

#include "kernels/common/zmm-vector-inl.h"

namespace q8::avx512vbmi {

extern const VectorKernels kVector = kVectorKernels;

}  // namespace q8::avx512vbmi
