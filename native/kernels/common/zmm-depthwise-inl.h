// SPDX-License-Identifier: MIT
/// Depthwise convolution on zmm: 64 channels at a time, 32 where no more are left. Included once by
/// kernels/<isa>/depthwise.cc after Q8_TARGET and, in the room's namespace, what the multiply-add
/// is:
///
///   kGroup, Weight           see depthwise-blocks-inl.h
///   __m512i spread(__m256i)  32 channels to where the unpacks of `interleave` want them
///   void interleave(const __m512i (&taps)[kGroup], __m512i (&operand)[2])   of spread taps
///   void interleave(const __m512i (&taps)[kGroup], __m512i (&operand)[4])   of taps as loaded
///   __m512i multiply_add(__m512i sums, __m512i taps, __m512i weights)
///   __m512i ones()           weights of 1
///
/// Registers of a rolling 3x3 window of 64 channels: 12 sums + 4 of operand + 4 taps; the compiler
/// keeps what it can of 12 weights. Loads and stores are masked.
#include <immintrin.h>

#include "kernels/common/depthwise-inl.h"
#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kWide = 4 * kLanes;
constexpr size_t kNarrow = 2 * kLanes;

template <typename Visit>
void for_blocks(size_t channels, const Visit& visit) {
  size_t first = 0;
  for (; first + kNarrow < channels; first += kWide) {
    const size_t left = channels - first;
    visit(Index<4>{}, first, left < kWide ? left : kWide);
  }
  if (first < channels) visit(Index<2>{}, first, channels - first);
}

template <size_t kBlockVectors, bool kWhole, bool kFlip, bool kCodes, bool kPlain = false>
class Block {
 public:
  static constexpr size_t kVectors = kBlockVectors;

  struct Sums {
    __m512i v[kVectors];
  };
  using Raw = __m512i;
  struct Operand {
    __m512i v[kVectors];
  };

  Block(const Epilogue& e, size_t live, uint8_t flip)
      : epilogue_(e),
        live_(live),
        mask_(live >= 64 ? ~__mmask64{0} : (__mmask64{1} << live) - 1),
        is_signed_(e.kind == OutKind::kS8),
        flip_(_mm512_set1_epi8(static_cast<char>(flip))),
        upper_(_mm512_set1_ps(e.hi)),
        code_zero_point_(_mm512_set1_epi16(static_cast<int16_t>(e.zero_point))),
        least_(least_code(e)) {
    for (size_t i = 0; i < kVectors; ++i) {
      bias_[i] = in_order(e.bias, i);
      if (e.scale != nullptr) scale_[i] = _mm512_castsi512_ps(in_order(e.scale, i));
      if (e.b_zero_point != nullptr) zero_point_[i] = in_order(e.b_zero_point, i);
    }
  }

  Q8_ALWAYS_INLINE Raw load(const uint8_t* p) const {
    __m512i bytes;
    if constexpr (kWhole) {
      bytes = kVectors == 4
                  ? _mm512_loadu_si512(p)
                  : _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    } else {
      bytes = _mm512_maskz_loadu_epi8(mask_, p);
    }
    if constexpr (kFlip) bytes = _mm512_xor_si512(bytes, flip_);
    return kVectors == 4 ? bytes : spread(_mm512_castsi512_si256(bytes));
  }
  static Q8_ALWAYS_INLINE Raw absent() { return _mm512_setzero_si512(); }

  static Q8_ALWAYS_INLINE Operand interleave(const Raw (&taps)[kGroup]) {
    Operand operand;
    Q8_TARGET::interleave(taps, operand.v);
    return operand;
  }

  Q8_ALWAYS_INLINE Sums start() const {
    Sums sums;
    for (size_t i = 0; i < kVectors; ++i) sums.v[i] = bias_[i];
    return sums;
  }
  static Q8_ALWAYS_INLINE Sums zero() {
    Sums sums;
    for (size_t i = 0; i < kVectors; ++i) sums.v[i] = _mm512_setzero_si512();
    return sums;
  }

  static Q8_ALWAYS_INLINE void multiply_add(Sums& sums, const Operand& operand,
                                            const uint8_t* weights) {
    for (size_t i = 0; i < kVectors; ++i) {
      sums.v[i] = Q8_TARGET::multiply_add(sums.v[i], operand.v[i],
                                          _mm512_load_si512(weights + i * sizeof(__m512i)));
    }
  }
  static Q8_ALWAYS_INLINE void add_inputs(Sums& inputs, const Operand& operand) {
    for (size_t i = 0; i < kVectors; ++i)
      inputs.v[i] = Q8_TARGET::multiply_add(inputs.v[i], operand.v[i], ones());
  }
  Q8_ALWAYS_INLINE void subtract_inputs(Sums& sums, const Sums& inputs) const {
    for (size_t i = 0; i < kVectors; ++i) {
      sums.v[i] = _mm512_sub_epi32(sums.v[i], _mm512_mullo_epi32(zero_point_[i], inputs.v[i]));
    }
  }

  Q8_ALWAYS_INLINE void finish(const Sums& sums, void* out) const {
    if constexpr (!kCodes) return finish_words(sums, out);
    // Above, the clamp must come before the conversion, which makes INT_MIN of what is too large.
    // Below, INT_MIN is on the right side: saturating and a maximum of codes finish it.
    __m512i codes[kVectors];
    for (size_t i = 0; i < kVectors; ++i) {
      const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums.v[i]), scale_[i]);
      codes[i] = _mm512_cvtps_epi32(kPlain ? y : _mm512_min_ps(y, upper_));
    }
    if constexpr (kPlain) return finish_plain(codes, out);
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(codes[0], codes[1]), code_zero_point_);
    if constexpr (kVectors == 2) {
      // In the range of its type, so that plain truncation serves u8 and s8.
      const __m256i bytes = _mm512_cvtepi16_epi8(_mm512_max_epi16(low, least_));
      if constexpr (kWhole) {
        _mm256_storeu_si256(static_cast<__m256i*>(out), bytes);
      } else {
        _mm512_mask_storeu_epi8(out, mask_, _mm512_castsi256_si512(bytes));
      }
    } else {
      const __m512i high = _mm512_adds_epi16(
          _mm512_packs_epi32(codes[kVectors - 2], codes[kVectors - 1]), code_zero_point_);
      const __m512i bytes = is_signed_ ? _mm512_max_epi8(_mm512_packs_epi16(low, high), least_)
                                       : _mm512_max_epu8(_mm512_packus_epi16(low, high), least_);
      _mm512_mask_storeu_epi8(out, mask_, bytes);
    }
  }

 private:
  /// Codes of Rounding::kPlain: what saturates is right.
  Q8_ALWAYS_INLINE void finish_plain(const __m512i (&codes)[kVectors], void* out) const {
    const __m512i low = _mm512_packs_epi32(codes[0], codes[1]);
    if constexpr (kVectors == 2) {
      const __m256i bytes =
          is_signed_ ? _mm512_cvtsepi16_epi8(low)
                     : _mm512_cvtepi16_epi8(_mm512_min_epi16(
                           _mm512_max_epi16(low, _mm512_setzero_si512()), _mm512_set1_epi16(255)));
      _mm256_storeu_si256(static_cast<__m256i*>(out), bytes);
    } else {
      const __m512i high = _mm512_packs_epi32(codes[kVectors - 2], codes[kVectors - 1]);
      _mm512_storeu_si512(
          out, is_signed_ ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high));
    }
  }

  /// Columns in the channel order of vector i: four 128-bit pieces, each read only if the block has
  /// any of its channels (arrays are readable up to the next multiple of 16).
  __m512i in_order(const void* columns, size_t i) const {
    const __m128i* p = static_cast<const __m128i*>(columns) + i;
    constexpr size_t kPiece = 4 * kVectors;
    const size_t readable = (live_ + 15) / 16 * 16;
    __m512i value = _mm512_castsi128_si512(_mm_loadu_si128(p));
    if (readable > kPiece) value = _mm512_inserti32x4(value, _mm_loadu_si128(p + kVectors), 1);
    if (readable > 2 * kPiece)
      value = _mm512_inserti32x4(value, _mm_loadu_si128(p + 2 * kVectors), 2);
    if (readable > 3 * kPiece)
      value = _mm512_inserti32x4(value, _mm_loadu_si128(p + 3 * kVectors), 3);
    return value;
  }

  Q8_ALWAYS_INLINE void finish_words(const Sums& sums, void* out) const {
    const Epilogue& e = epilogue_;
    alignas(64) int32_t staged[kVectors * kLanes];
    for (size_t i = 0; i < kVectors; ++i) {
      __m512i words = sums.v[i];
      if (e.kind == OutKind::kF32) {
        __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(words), scale_[i]);
        if (e.float_bias != nullptr)
          y = _mm512_add_ps(y, _mm512_castsi512_ps(in_order(e.float_bias, i)));
        words = _mm512_castps_si512(y);
      }
      __m128i* to = reinterpret_cast<__m128i*>(staged) + i;
      _mm_store_si128(to, _mm512_castsi512_si128(words));
      _mm_store_si128(to + kVectors, _mm512_extracti32x4_epi32(words, 1));
      _mm_store_si128(to + 2 * kVectors, _mm512_extracti32x4_epi32(words, 2));
      _mm_store_si128(to + 3 * kVectors, _mm512_extracti32x4_epi32(words, 3));
    }
    memcpy(out, staged, live_ * sizeof(int32_t));
  }

  /// The least code: as words where the results are narrowed from words, else as bytes.
  static __m512i least_code(const Epilogue& e) {
    const int32_t least = static_cast<int32_t>(e.lo) + e.zero_point;
    return kVectors == 2 ? _mm512_set1_epi16(static_cast<int16_t>(least))
                         : _mm512_set1_epi8(static_cast<char>(least));
  }

  Epilogue epilogue_;
  size_t live_;
  __mmask64 mask_;
  bool is_signed_;
  __m512i flip_;
  // Of codes. Made once: the compiler must assume that stores of results change the epilogue.
  __m512 upper_;
  __m512i code_zero_point_;
  __m512i least_;
  __m512i bias_[kVectors];
  __m512 scale_[kVectors];
  __m512i zero_point_[kVectors];
};

template <size_t kVectors>
using PlainBlock = Block<kVectors, true, false, true, true>;

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

#include "kernels/common/depthwise-blocks-inl.h"
